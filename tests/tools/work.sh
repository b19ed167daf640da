# What people build and run, each from nothing and without a network; runs inside, under a filter.
set -eu
cd /tmp
export HOME=/tmp GOCACHE=/tmp/go-cache CARGO_HOME=/tmp/cargo
ran() { echo "ran: $*"; }

mkdir go-program && cd go-program
printf 'module m\n\ngo 1.19\n' > go.mod
cat > main.go <<'END'
package main

import "fmt"

func main() {
	answers := make(chan int)
	for i := 0; i < 8; i++ {
		go func() { answers <- 1 }()
	}
	sum := 0
	for i := 0; i < 8; i++ {
		sum += <-answers
	}
	fmt.Println("sum", sum)
}
END
go build -o program . && [ "$(./program)" = "sum 8" ] && ran "$(go version)"
cd ..

cargo new -q --vcs none rust_program && cd rust_program
cargo build -q --offline && [ "$(./target/debug/rust_program)" = "Hello, world!" ] && ran "$(cargo --version)"
cd ..

mkdir java && cd java
cat > Main.java <<'END'
public class Main {
    public static void main(String[] given) throws Exception {
        Thread other = new Thread(() -> System.out.println("from a thread"));
        other.start();
        other.join();
        System.gc();
    }
}
END
javac Main.java && [ "$(java Main)" = "from a thread" ] && ran "$(java -version 2>&1 | head -1)"
cd ..

mkdir node-package dependency && printf '{"name": "dependency", "version": "1.0.0"}' > dependency/package.json
cd node-package && npm init -y > out && npm install --offline ../dependency > out && npm pack > out 2>&1
[ -e node_modules/dependency/package.json ] && ran "npm $(npm --version) on node $(node --version)"
cd ..

found=$(sqlite3 t.db 'pragma journal_mode=wal; create table t(a); insert into t values (7); select a from t;' | tail -1)
[ "$found" = 7 ] && ran "sqlite3 $(sqlite3 --version | cut -d' ' -f1)"
