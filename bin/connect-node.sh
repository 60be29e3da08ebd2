#!/bin/sh
# Starts connect-node with the command lines of Kafka's scripts: connect-standalone.sh and connect-distributed.sh are this file under
# other names. Runs it in the foreground, or with -daemon in the background, as Kafka's scripts do.
#
# Environment:
#   CONNECT_NODE_BIN  the program. Without it: connect-node beside this file, then of target/release or target/debug of a source tree,
#                     then in PATH
#   LOG_DIR           where -daemon writes the log; `logs` beside the directory of this file unless set
#   CONNECT_NODE_LOG  levels of the log, see README
set -eu

fail() {
    printf '%s: %s\n' "$command_name" "$1" >&2
    exit 1
}

command_name=${0##*/}
case $command_name in
*standalone*) mode=standalone ;;
*distributed*) mode=distributed ;;
*) fail "call it as connect-standalone.sh or connect-distributed.sh" ;;
esac

usage() {
    if [ "$mode" = standalone ]; then
        echo "USAGE: $0 [-daemon] connect-standalone.properties [connector1.properties connector2.json ...]" >&2
    else
        echo "USAGE: $0 [-daemon] connect-distributed.properties" >&2
    fi
    exit 1
}

# Where this file is, through all symbolic links.
file=$0
while [ -h "$file" ]; do
    target=$(readlink "$file")
    case $target in
    /*) file=$target ;;
    *) file=${file%/*}/$target ;;
    esac
done
here=$(cd "$(dirname "$file")" && pwd -P)

daemon=false
name=connect$(printf '%s' "$mode" | sed 's/^s/S/; s/^d/D/')
while [ $# -gt 0 ]; do
    case $1 in
    -daemon) daemon=true ;;
    -name)
        [ $# -ge 2 ] || usage
        shift
        name=$1
        ;;
    # About the JVM, which there is none of.
    -loggc) ;;
    --help | -help | -h) usage ;;
    --) shift && break ;;
    -*) fail "unknown option $1" ;;
    *) break ;;
    esac
    shift
done
[ $# -ge 1 ] || usage
[ "$mode" = standalone ] || [ $# -eq 1 ] || usage

find_program() {
    if [ -n "${CONNECT_NODE_BIN:-}" ]; then
        [ -x "$CONNECT_NODE_BIN" ] || fail "CONNECT_NODE_BIN=$CONNECT_NODE_BIN is no program"
        printf '%s\n' "$CONNECT_NODE_BIN"
        return
    fi
    for candidate in "$here/connect-node" "$here/../target/release/connect-node" "$here/../target/debug/connect-node"; do
        if [ -f "$candidate" ] && [ -x "$candidate" ]; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    command -v connect-node ||
        fail "connect-node is neither beside this script nor in PATH; build it with 'cargo build --release', or set CONNECT_NODE_BIN"
}
program=$(find_program)

if [ "$daemon" = false ]; then
    exec "$program" "$mode" "$@"
fi
log_dir=${LOG_DIR:-$here/../logs}
mkdir -p "$log_dir"
nohup "$program" "$mode" "$@" >>"$log_dir/$name.out" 2>&1 </dev/null &
