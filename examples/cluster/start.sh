#!/bin/sh
# Three nodes on one machine that share a space and an agent:
#
#   examples/cluster/start.sh [FOLDER]     start them, and say how to speak to them
#   examples/cluster/start.sh stop [FOLDER]
#
# Each has a data folder of its own under FOLDER (default: ./cluster), and keeps its agent and its
# space when it is started again. SYNOD names another program than the `synod` on the path.
set -eu

synod=${SYNOD:-synod}
here=$(cd "$(dirname "$0")" && pwd)
program=${PROGRAM:-$here/../bank.pl}
nodes="alpha beta gamma"

say() { echo "$@" >&2; }

at() {
    node=$1
    shift
    "$synod" "$@" --data "$folder/$node"
}

stop() {
    for node in $nodes; do
        at "$node" down 2>/dev/null || true
    done
}

if [ "${1:-}" = stop ]; then
    folder=${2:-cluster}
    stop
    exit 0
fi

folder=${1:-cluster}
mkdir -p "$folder"
chmod 700 "$folder"
trap 'say "the cluster was not started: $folder/NODE/node.log says more"; stop' EXIT

for node in $nodes; do
    # Any free port, and the same again at the next start: it is where the others look. The ticket says
    # where the first one is.
    at "$node" up --detach --node "$node" --no-mdns --listen /ip4/127.0.0.1/tcp/0 >&2
done

has_space() {
    at "$1" space list --json | grep -q '"name":"bank"'
}

has_space alpha || at alpha space create bank >&2
for node in beta gamma; do
    has_space "$node" || at "$node" space join "$(at alpha space ticket bank --uses 1 2>/dev/null)" >&2
done

for node in $nodes; do
    at "$node" agent list --json | grep -q '"name":"bank"' ||
        at "$node" run --detach "$program" --space bank >&2
done

for node in $nodes; do
    tries=0
    until at "$node" status --ready >/dev/null 2>&1; do
        tries=$((tries + 1))
        [ "$tries" -lt 100 ] || { say "node $node does not become ready"; exit 1; }
        sleep 0.3
    done
done
trap - EXIT

say "three nodes are ready; speak to any of them:"
for node in $nodes; do
    echo "$folder/$node"
done
say "  $synod query 'account(X, Y)' --data $folder/alpha"
say "  $synod space members --data $folder/beta"
say "  $0 stop $folder"
