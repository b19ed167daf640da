"""The double's commands: the few a test needs, with the options those tests use and no others.

An option that is not known ends the command with status 2 and a line on stderr; nothing is quietly ignored.
"""

from sandbox.memory.builtins import sh
from sandbox.memory.processes import Program
from sandbox.memory.programs import conditions, files, processes, text

PROGRAMS: dict[str, Program] = {
    "[": conditions.test,
    "bash": sh,
    "cat": text.cat,
    "chmod": files.chmod,
    "dd": files.dd,
    "echo": text.echo,
    "env": processes.env,
    "false": processes.false,
    "head": text.head,
    "id": processes.identity,
    "kill": processes.kill,
    "ln": files.ln,
    "ls": files.ls,
    "mkdir": files.mkdir,
    "mkfifo": files.mkfifo,
    "mv": files.mv,
    "nohup": processes.nohup,
    "printf": text.printf,
    "pwd": processes.pwd,
    "rm": files.rm,
    "setsid": processes.setsid,
    "sh": sh,
    "sleep": processes.sleep,
    "stty": processes.stty,
    "tail": text.tail,
    "tee": text.tee,
    "test": conditions.test,
    "touch": files.touch,
    "tr": text.tr,
    "true": processes.true,
    "wc": text.wc,
    "yes": text.yes,
}
