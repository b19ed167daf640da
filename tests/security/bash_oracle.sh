# What bash runs of each line it is given, with every command logged instead of run. Lines come from the
# file $1, each ended by NUL; standard output has for each command: the line's number, the status that
# commands had, the number of words, the words; each ended by NUL.
#
# Every line runs twice in a subshell of its own, by `eval`, as the harness runs text: once where all commands
# succeed and once where all fail, so that both sides of && and || are seen.
ran() {
  builtin printf '%s\0' "$line" "$status" "$#" "$@" >&9
  builtin return "$status"
}
command_not_found_handle() { ran "$@"; }
mapfile -d '' -t lines < "$1"
exec 9>&1 1>/dev/null 2>/dev/null </dev/null
PATH=/nowhere
# Functions of these names come before the builtins, of which `builtin` alone is left: the oracle needs it.
for name in $(compgen -b) ./shim /bin/shim ../shim; do
  case $name in
    builtin) ;;
    *) builtin eval "$name() { ran '$name' \"\$@\"; }" ;;
  esac
done
line=0
while ((line < ${#lines[@]})); do
  for status in 0 1; do
    (builtin eval -- "${lines[line]}")
  done
  ((line += 1))
done
