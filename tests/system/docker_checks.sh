#!/bin/bash
# The checks of docker_build.sh, inside the engine's system: starts dockerd, builds, runs, asks, ends.
#
# usage: docker_checks.sh CGROUP REVISION; expects /pharos (the checkout), /base.tar, /run/build (settings)
# shellcheck disable=SC2016  # single quotes: for the shells inside containers
set -euo pipefail

cgroup=$1
revision=$2
base=pharos-base:bookworm
stand_in=pharos-prometheus:debian
dns=5353
node_dns=5354
edge=http://127.0.0.1:8080
api=http://127.0.0.1:8123
prometheus=http://127.0.0.1:9090
export PHAROS_IMAGE=pharos:proof PROMETHEUS_IMAGE=$stand_in BASE_IMAGE=$base DOCKER_BUILDKIT=1
summary=()

say() { printf 'docker: %s\n' "$*" >&2; }
note() { summary+=("$*"); say "$*"; }

fail() {
    say "FAILED: $*"
    compose ps >&2 2>&1 || true
    compose logs --no-color --tail 30 >&2 2>&1 || true
    tail -5 /var/log/dockerd.log >&2
    exit 1
}

compose() { # the plugin where there is one, else the older program
    if docker compose version >/dev/null 2>&1; then
        docker compose -p pharos -f /pharos/docker/compose.yml "$@"
    else
        docker-compose -p pharos -f /pharos/docker/compose.yml "$@"
    fi
}

check() { # WHAT COMMAND…
    local what=$1
    shift
    "$@" >/tmp/check 2>&1 || { cat /tmp/check >&2; fail "$what"; }
    note "ok: $what"
}

refused() { ! "$@"; }

until_true() { # SECONDS COMMAND…: asks again until it says yes
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$end" ] || { "$@" || true; return 1; }
        sleep 0.2
    done
}

value_of() { # EXPRESSION: of the JSON document `d` on standard input
    python3 -c 'import json, sys; d = json.load(sys.stdin); print(eval(sys.argv[1]))' "$1"
}

says() { # URL EXPRESSION: the document makes it true
    [ "$(curl -sf --max-time 5 "$1" | value_of "bool($2)")" = True ]
}

# --- engine and images --------------------------------------------------------------------------

start_engine() {
    local driver=()
    mkdir -p /tmp /run/lock
    mount -t tmpfs -o mode=1777 tmp /tmp
    printf 'nameserver 10.0.2.3\n' >/tmp/resolv.conf # slirp4netns' own, which asks this machine's
    mount --bind /tmp/resolv.conf /etc/resolv.conf
    grep -qw overlay /proc/filesystems || driver=(--storage-driver vfs)
    dockerd --cgroup-parent "/$cgroup" --log-level warn "${driver[@]}" >/var/log/dockerd.log 2>&1 &
    engine_pid=$!
    until_true 30 docker info || fail "dockerd did not come up"
    note "engine: Docker $(docker version --format '{{.Server.Version}}'), $(docker info --format '{{.Driver}}')"
}

build() { # TAG FOLDER ARGUMENTS…: with what the build has to be told about this machine
    local arguments=(-t "$1") folder=$2 file name
    shift 2
    for file in apt_conf apt_sources pip_conf ca; do
        [ ! -e "/run/build/$file" ] || arguments+=(--secret "id=$file,src=/run/build/$file")
    done
    while read -r name; do arguments+=(--build-arg "$name"); done </run/build/arguments
    docker build --progress=plain "${arguments[@]}" "$@" "$folder" >/var/log/build.log 2>&1 ||
        { tail -40 /var/log/build.log >&2; fail "docker build $folder"; }
}

build_images() {
    local start=$SECONDS
    docker import /base.tar "$base" >/dev/null
    build "$PHAROS_IMAGE" /pharos -f /pharos/docker/Dockerfile --build-arg "BASE_IMAGE=$base" --build-arg "REVISION=$revision"
    note "image built in $((SECONDS - start)) s"
    note "sizes: base $(megabytes "$base"), image $(megabytes "$PHAROS_IMAGE")," \
        "compressed $(docker save "$PHAROS_IMAGE" | gzip -1 | wc -c | awk '{ printf "%.0f MB", $1 / 1e6 }')"

    mkdir /tmp/stand-in
    cp /usr/bin/prometheus /tmp/stand-in/
    printf '%s\n' "FROM $base" "COPY prometheus /bin/prometheus" \
        "RUN install -d -o 65534 -g 65534 /prometheus" 'ENTRYPOINT ["/bin/prometheus"]' >/tmp/stand-in/Dockerfile
    build "$stand_in" /tmp/stand-in
}

megabytes() { docker image inspect --format '{{.Size}}' "$1" | awk '{ printf "%.0f MB", $1 / 1e6 }'; }

in_image() { docker run --rm --entrypoint sh "$PHAROS_IMAGE" -c "$1"; }

check_image() {
    check "the image is not root's" in_image '[ "$(id -u):$(id -g)" = 10053:10053 ]'
    check "no compiler, pip or cache in it" in_image \
        '! command -v gcc cc pip pip3 as ld && ! ls /root/.cache /var/lib/apt/lists/* 2>/dev/null | grep -q .'
    check "no settings of the build in it" no_settings
    check "state is the user's, the program is not" in_image \
        '[ -w /var/lib/pharos ] && [ ! -w /opt/pharos/bin/pharos ] && [ ! -w /etc/pharos ]'
    check "pharos version" docker run --rm "$PHAROS_IMAGE" version
    check "the revision is in its label" [ \
        "$(docker image inspect --format '{{index .Config.Labels "org.opencontainers.image.revision"}}' "$PHAROS_IMAGE")" = "$revision" ]
    check "without a configuration it says so, and ends with 2" no_configuration
}

no_settings() { # neither a secret's file nor its text (the base's own package sources aside) nor a proxy
    in_image '! find /run/secrets -type f 2>/dev/null | grep . && ! env | grep -Ei "^PIP_|proxy"' || return
    ! docker history --no-trunc --format '{{.CreatedBy}}' "$PHAROS_IMAGE" | grep -E '(PIP_[A-Z_]+|_proxy)='
}

no_configuration() {
    local code=0
    docker run --rm "$PHAROS_IMAGE" >/tmp/out 2>&1 || code=$?
    [ "$code" -eq 2 ] && grep -q /etc/pharos/pharos.toml /tmp/out
}

# --- the compose file ---------------------------------------------------------------------------

id_of() { compose ps -q "$1"; }
state_of() { docker inspect --format "$2" "$(id_of "$1")"; }
is() { [ "$(state_of "$1" "$2")" = "$3" ]; }
pharos() { docker exec "$(id_of pharos)" pharos "$@"; }
ask() { dig +short +tries=1 +time=2 @127.0.0.1 -p "$dns" "$@"; }
answers() { [ -n "$(ask "$@")" ]; }
ask_node() { dig +short +tries=1 +time=5 @127.0.0.1 -p "$node_dns" "$@"; }

bring_up() {
    local start=$SECONDS
    check "compose file is valid" compose config -q
    check "Prometheus' configuration and rules are valid" promtool check config /pharos/docker/prometheus.yml
    check "the alerts' tests pass" promtool test rules /pharos/docker/alerts_test.yml
    compose up -d --no-build >/var/log/up.log 2>&1 || { cat /var/log/up.log >&2; fail "compose up"; }
    until_true 30 is pharos '{{.State.Health.Status}}' healthy || fail "Pharos is not healthy"
    until_true 30 is node '{{.State.Health.Status}}' healthy || fail "the node is not healthy"
    until_true 30 is edge '{{.State.Health.Status}}' healthy || fail "the edge is not healthy"
    note "compose up: simulator healthy, server, node and edge ready, Prometheus started in $((SECONDS - start)) s"
}

check_names() {
    local name
    name=$(pharos tasks --json | value_of \
        'next(t["name"] + "." + t["framework"] for t in d if t["state"] == "TASK_RUNNING" and t["addresses"])').mesos
    check "UDP: $name has an address" answers "$name"
    check "TCP: the same addresses" [ "$(ask "$name" | sort)" = "$(ask +tcp "$name" | sort)" ]
    check "SRV of _leader._tcp.mesos" answers _leader._tcp.mesos SRV
    check "other names are forwarded to the engine's name server" answers simulator
    task_name=$name
}

check_node() {
    check "node: it follows the server" docker exec "$(id_of node)" pharos status
    check "node: $task_name, UDP" until_true 5 same_on_node "$task_name"
    check "node: $task_name, TCP" same_on_node +tcp "$task_name"
    check "node: the server's own name, by its upstream" [ "$(ask_node pharos)" = "$(ask pharos)" ]
}

same_on_node() { answers "$@" && [ "$(ask_node "$@" | sort)" = "$(ask "$@" | sort)" ]; }

# The simulated tasks' addresses (10.64.0.0/10) are nobody's. What is sent to them comes to one port here, behind which
# there is a server or not.

bring_tasks_here() {
    local gateway
    gateway=$(docker network inspect --format '{{(index .IPAM.Config 0).Gateway}}' pharos_default)
    iptables -t nat -A PREROUTING -d 10.64.0.0/10 -p tcp -j DNAT --to-destination "$gateway:18999"
}

start_task() {
    mkdir /tmp/task
    echo 'a task' >/tmp/task/index.html
    python3 -m http.server --directory /tmp/task 18999 >/dev/null 2>&1 &
}

edge_says() { # STATUS HOST ARGUMENTS…: what a request for that host is answered
    local status=$1 host=$2
    shift 2
    [ "$(curl -s -m 15 -o /dev/null -w '%{http_code}' -H "Host: $host" "$@")" = "$status" ]
}

in_edge() { docker exec "$(id_of edge)" "$@"; }

check_edge() {
    local name=app-00000.example.test
    check "edge: it follows the server" in_edge pharos status
    check "edge: the route of $name, and its servers" in_edge pharos routes $name
    check "edge: marathon-lb's map of hosts" in_edge python -c '
import urllib.request as u
assert "app-00000.example.test group-00_app-00000_10000" in u.urlopen("http://127.0.0.1:8124/_haproxy_getvhostmap").read().decode()'
    check "edge: [api] has the same routes" in_edge python -c '
import json, urllib.request as u
hosts = {route["host"] for route in json.load(u.urlopen("http://127.0.0.1:8123/v1/routes"))}
assert len([host for host in hosts if host.endswith(".example.test")]) == 22, hosts'
    bring_tasks_here
    check "edge: 503 for a host that no app has" edge_says 503 nobody.example.test $edge
    check "edge: 503 for $name while nobody is at its servers' addresses" edge_says 503 $name $edge
    start_task
    check "edge: 200 from a server of $name" until_true 5 edge_says 200 $name $edge
    check "edge: two workers without a capability" in_edge sh -c 'n=0
        for task in /proc/[0-9]*; do
            [ "$(cat $task/comm)" = pharos-l7 ] || continue
            grep -qx "CapPrm:.0*" $task/status && grep -qx "NoNewPrivs:.1" $task/status || exit 1
            n=$((n + 1))
        done; [ $n = 2 ]'
}

check_http() {
    check "/livez and /readyz say 200" curl -sf -o /dev/null "$api/livez" -o /dev/null "$api/readyz"
    check "the tasks are in /v1/tasks" says "$api/v1/tasks" 'len(d if isinstance(d, list) else d["tasks"]) >= 450'
    check "[admin] answers inside the container" pharos status
    check "[admin] is closed from other containers" refused docker exec "$(id_of simulator)" \
        python -c 'import socket; socket.create_connection(("pharos", 8124), timeout=2)'
}

check_confinement() {
    local service
    for service in simulator pharos node edge; do
        check "$service: user 10053, no capability, no new privileges, root read-only" docker exec "$(id_of $service)" sh -c \
            '[ "$(id -u)" = 10053 ] && grep -qx "CapEff:.0*" /proc/1/status && grep -qx "CapBnd:.0*" /proc/1/status &&
             grep -qx "NoNewPrivs:.1" /proc/1/status && ! touch /opt/x 2>/dev/null && touch /tmp/x'
    done
    check "prometheus: not root, root read-only" docker exec "$(id_of prometheus)" sh -c \
        '[ "$(id -u)" = 65534 ] && ! touch /x 2>/dev/null'
    check "published on loopback only" refused grep -v 127.0.0.1 <(docker ps --format '{{.Ports}}' |
        tr ',' '\n' | grep -e '->')
    note "memory: $(docker stats --no-stream --format '{{.Name}} {{.MemUsage}}' | sed 's# /.*##' | paste -sd, | sed 's/,/, /g')"
}

metric() { # QUERY EXPRESSION: the query's result `r` makes it true
    says "$prometheus/api/v1/query?query=$1" "(lambda r: $2)(d['data']['result'])"
}

check_prometheus() {
    local service
    check "Prometheus: server, node and edge are up" until_true 30 says "$prometheus/api/v1/targets" \
        '[t["health"] for t in d["data"]["activeTargets"]] == ["up", "up", "up"]'
    check "Prometheus: the sources are connected" until_true 20 metric "pharos_source_connected" \
        'sorted((x["metric"]["source"], x["value"][1]) for x in r) == [("draining", "1"), ("marathon", "1"), ("mesos", "1"), ("relay", "1"), ("relay", "1")]'
    check "Prometheus: every alert rule evaluates" until_true 30 says "$prometheus/api/v1/rules" \
        'all(x["health"] == "ok" for g in d["data"]["groups"] for x in g["rules"])'
    check "Prometheus: no alert" says "$prometheus/api/v1/alerts" 'd["data"]["alerts"] == []'
    curl -sf "$api/metrics" >>/tmp/metrics
    for service in node edge; do
        docker exec "$(id_of $service)" python -c \
            'import urllib.request as u; print(u.urlopen("http://127.0.0.1:8123/metrics").read().decode())' >>/tmp/metrics
    done
}

rules_metrics() { # a rule over a metric that neither server nor node nor edge nor unit serves would never fire
    local name
    grep -v '^ *#' /pharos/docker/alerts.yml | grep -oE '\bpharos_[a-z0-9_]+' | sort -u >/tmp/names
    [ -s /tmp/names ] || return 1
    while read -r name; do
        grep -qE "^(# TYPE )?$name( |\{)" /tmp/metrics || { echo "$name"; return 1; }
    done </tmp/names
}

check_node_alone() {
    local addresses
    addresses=$(ask "$task_name" | sort)
    docker stop -t 15 "$(id_of pharos)" >/dev/null
    check "server gone: the node answers $task_name all the same" [ "$(ask_node "$task_name" | sort)" = "$addresses" ]
    check "server gone: the node has noticed" until_true 15 node_follows 0
    check "server gone: what PharosSourceLost looks at grows" until_true 20 metric "pharos_source_stale_seconds" \
        'len([x for x in r if x["metric"]["source"] == "relay" and float(x["value"][1]) > 0]) == 2'
    check "server gone: and goes on answering" [ "$(ask_node "$task_name" | sort)" = "$addresses" ]
    check "server gone: and the edge as well" edge_says 200 app-00000.example.test $edge
    docker start "$(id_of pharos)" >/dev/null
    check "server back: the node follows it again" until_true 30 node_follows 1
}

# --- what operators do --------------------------------------------------------------------------

check_operation() {
    local id start
    id=$(id_of pharos)
    docker kill -s HUP "$id" >/dev/null
    check "SIGHUP: reloaded" until_true 10 logged "$id" 'configuration reloaded'
    docker kill "$(id_of simulator)" >/dev/null
    check "cluster gone: $task_name still answers" answers "$task_name"
    check "cluster gone: Prometheus sees the source as lost" until_true 20 metric "pharos_source_connected" \
        '[x["value"][1] for x in r if x["metric"]["source"] == "mesos"] == ["0"]'
    start=$SECONDS
    docker stop -t 15 "$id" >/dev/null
    check "stopped in $((SECONDS - start)) s, exit code 0" is pharos '{{.State.ExitCode}}' 0
    docker start "$id" >/dev/null
    check "started again without the cluster: $task_name answers from the saved state" until_true 15 answers "$task_name"
    compose up -d --no-build simulator >/dev/null 2>&1
    check "cluster back: the source is connected" until_true 30 says_connected
}

logged() { docker logs "$1" 2>&1 | grep "$2"; } # not -q: that would end docker logs by a signal
node_follows() { metric "pharos_source_connected" "[x['value'][1] for x in r if x['metric']['instance'] == 'node:8123'] == ['$1']"; }
says_connected() { curl -sf "$api/metrics" | grep -E '^pharos_source_connected(\{.*\})? 1(\.0)?$' >/dev/null; }

# --- a node in the host's own network (here: the engine's) ---------------------------------------

host_node() { # DEVICE ARGUMENTS…: a container as docker/README.md has it for nodes
    local device=$1
    shift
    mkdir -p /tmp/host-node
    printf '[relay]\nservers = ["%s"]\n[resolver]\n%s\nupstreams = ["192.0.2.1"]\n' "$api" "$device" >/tmp/host-node/pharos.toml
    docker run -d --name pharos-host-node --network host --read-only --tmpfs /tmp --cap-drop ALL \
        --security-opt no-new-privileges --no-healthcheck -v /tmp/host-node:/etc/pharos:ro "$@" "$PHAROS_IMAGE" >/dev/null
}

host_node_answers() { [ "$(dig +short +tries=1 +time=2 @198.51.100.3 "$task_name" | sort)" = "$(ask "$task_name" | sort)" ]; }
host_has_addresses() { ip -brief address | grep '198\.51\.100\.3/32'; } # not -q, see logged

end_host_node() {
    docker stop -t 15 pharos-host-node >/dev/null
    [ "$(docker inspect --format '{{.State.ExitCode}}' pharos-host-node)" = 0 ] && docker rm pharos-host-node
}

check_host_node() {
    local number
    echo 53 >/proc/sys/net/ipv4/ip_unprivileged_port_start
    for number in 1 2 3; do ip address add 198.51.100.$number/32 dev lo; done
    host_node 'device = ""' -v host-node:/var/lib/pharos
    check "host's network, addresses set by the host: answers" until_true 15 host_node_answers
    check "host's network, addresses set by the host: stops" end_host_node
    check "host's network, addresses set by the host: they stay" host_has_addresses
    for number in 1 2 3; do ip address del 198.51.100.$number/32 dev lo; done
    echo 1024 >/proc/sys/net/ipv4/ip_unprivileged_port_start

    mkdir /tmp/host-state
    host_node '' --user 0:0 --cap-add NET_ADMIN --cap-add NET_BIND_SERVICE -v /tmp/host-state:/var/lib/pharos
    check "host's network, as root with two capabilities: answers" until_true 15 host_node_answers
    check "host's network, as root with two capabilities: stops" end_host_node
    check "host's network, as root with two capabilities: no address is left" refused host_has_addresses
    check "host's network, as root with two capabilities: the catalog is saved" [ -s "$(find /tmp/host-state/catalog* | head -1)" ]
}

# --- the systemd unit ---------------------------------------------------------------------------

build_systemd() { # an image with a real systemd in which the unit is installed as docker/README.md says
    local here=/tmp/unit
    mkdir $here
    cp -r /pharos/docker/pharos.service /pharos/docker/pharos.service.d $here/
    cat >$here/pharos.toml <<'END'
[file]
paths = ["/etc/pharos/static.zone"]
[dns]
listen = ["0.0.0.0:53"]
[api]
[admin]
END
    echo 'www.mesos. 60 IN A 10.1.2.3' >$here/static.zone
    # Twice a second is much more often than the unit's own: a process that gave no sign would be ended soon.
    printf '[Service]\nWatchdogSec=1s\n' >$here/watchdog.conf
    cat >$here/Dockerfile <<END
FROM $base
RUN --mount=type=secret,id=apt_conf --mount=type=secret,id=apt_sources --mount=type=secret,id=ca \
    set -eu; if [ -e /run/secrets/apt_conf ]; then export APT_CONFIG=/run/secrets/apt_conf; fi; \
    apt-get update -qq; apt-get install -y -qq --no-install-recommends libnss-systemd python3 systemd >/dev/null
COPY --from=$PHAROS_IMAGE /opt/pharos /opt/pharos
COPY pharos.toml static.zone /etc/pharos/
COPY pharos.service /etc/systemd/system/
COPY watchdog.conf /etc/systemd/system/pharos.service.d/
COPY pharos.service.d /pharos.service.d
RUN systemctl enable pharos.service && systemctl mask console-getty.service getty.target \
    systemd-binfmt.service systemd-logind.service systemd-modules-load.service systemd-sysctl.service
ENV container=docker
STOPSIGNAL SIGRTMIN+3
CMD ["/lib/systemd/systemd"]
END
    build pharos-systemd:proof $here
}

unit() { docker exec pharos-unit systemctl "$@"; }

check_unit() {
    local address start=$SECONDS
    build_systemd
    docker run -d --name pharos-unit --cap-add SYS_ADMIN --cap-add NET_ADMIN --security-opt seccomp=unconfined \
        --security-opt apparmor=unconfined --tmpfs /run --tmpfs /tmp -v /sys/fs/cgroup:/sys/fs/cgroup \
        pharos-systemd:proof >/dev/null
    address=$(docker inspect --format '{{.NetworkSettings.IPAddress}}' pharos-unit)
    until_true 20 unit is-active pharos || { docker exec pharos-unit journalctl --no-pager -u pharos >&2; fail "unit"; }
    check "unit: Type=notify came up" unit is-active pharos
    check "unit: port 53 answers" until_true 5 unit_answers "$address"
    check "unit: a user of its own, one capability, system calls filtered" docker exec pharos-unit sh -c '
        file=/proc/$(systemctl show -P MainPID pharos)/status && cat $file &&
        ! grep -q "^Uid:.0" $file && grep -qx "CapEff:.0*400" $file && grep -qx "Seccomp:.2" $file'
    check "unit: a native worker answers" until_true 5 docker exec pharos-unit sh -c 'cat /proc/[0-9]*/comm | grep -qx pharos-dns'
    check "unit: reload" unit reload pharos
    docker exec pharos-unit sh -c 'echo "[dsn]" >>/etc/pharos/pharos.toml'
    check "unit: a bad configuration fails the reload" refused unit reload pharos
    check "unit: and changes nothing" unit_answers "$address"
    sleep 3 # three times the watchdog's limit
    check "unit: signs of life reach systemd, no restart" [ "$(unit show -P NRestarts pharos)" = 0 ]
    check "unit: stops" unit stop pharos
    check "unit: with exit code 0" [ "$(unit show -P Result pharos) $(unit show -P ExecMainStatus pharos)" = "success 0" ]
    check_unit_edge "$address"
    check_unit_addresses
    check_unit_vips
    check_unit_resolv_conf
    docker rm -f pharos-unit >/dev/null
    note "unit: under systemd $(docker run --rm pharos-systemd:proof systemctl --version | awk 'NR == 1 { print $2 }')," \
        "$((SECONDS - start)) s"
}

# The same unit with a drop-in of docker/pharos.service.d, as a node. `in_unit` runs in the machine, `beside_unit`
# in its network, with the engine's programs.

in_unit() { docker exec -i pharos-unit "$@"; }
beside_unit() { nsenter --net="/proc/$(docker inspect --format '{{.State.Pid}}' pharos-unit)/ns/net" "$@"; }
resolver_answers() { [ "$(beside_unit dig +short +tries=1 +time=2 @"$1" www.mesos)" = 10.1.2.3 ]; }
has_address() { beside_unit ip -brief address | grep -w "$1/32"; }
capabilities() { in_unit grep -x "CapEff:.$1" "/proc/$(unit show -P MainPID pharos)/status"; }
workers_are_confined() { in_unit sh -c 'n=0
    for task in /proc/[0-9]*; do
        [ "$(cat $task/comm)" = "$0" ] || continue
        grep -qx "CapPrm:.0*" $task/status || exit 1
        n=$((n + 1))
    done; [ $n -ge 1 ]' "$1"; } # NAME: of the processes

start_node() { # DROP-IN TEXT: the unit with that drop-in alone, and this in [resolver]
    in_unit sh -c "cd /etc/systemd/system/pharos.service.d && rm -f addresses.conf resolv-conf.conf vips.conf && cp /pharos.service.d/$1 ."
    printf '[file]\npaths = ["/etc/pharos/static.zone"]\n[resolver]\n%s\n[api]\n[admin]\n' "$2" |
        in_unit sh -c 'cat >/etc/pharos/pharos.toml'
    unit daemon-reload
    unit start pharos || { in_unit journalctl --no-pager -n 40 -u pharos >&2; fail "unit with $1"; }
}

check_unit_edge() { # ADDRESS: an edge beside a simulated cluster, whose tasks are here, too (bring_tasks_here)
    local address=$1
    docker exec -d pharos-unit /opt/pharos/bin/pharos simulate --nodes 1 --tasks 20 --master-port 5050 --marathon-port 8080
    in_unit sh -c 'cat >/etc/pharos/pharos.toml' <<'END'
[mesos]
masters = ["127.0.0.1:5050"]
[marathon]
urls = ["http://127.0.0.1:8080"]
[l7]
http = [":80"]
https = []
checks = false
[api]
[admin]
END
    unit start pharos || { in_unit journalctl --no-pager -n 40 -u pharos >&2; fail "unit, an edge"; }
    check "unit, an edge: port 80 leads to a task" until_true 15 edge_says 200 app-00000.example.test "$address"
    check "unit, an edge: still one capability" capabilities '0*400'
    check "unit, an edge: workers have none" until_true 5 workers_are_confined pharos-l7
    # The hash is of "secret"; libcrypt checks it, which must get along with MemoryDenyWriteExecute.
    beside_unit curl -sf -o /dev/null -H 'Content-Type: application/json' http://127.0.0.1:8080/v2/apps -d '{
        "id": "/private", "cmd": "serve", "instances": 1, "cpus": 0.1, "mem": 32, "portDefinitions": [{"port": 0}],
        "labels": {"HAPROXY_GROUP": "external", "HAPROXY_0_VHOST": "private.example.test", "HAPROXY_0_AUTH":
            "here:ann:$6$salt$egUxKNxDs8kPfh8iPMNcosMhb2eWah6d3R44JDm5Rj/j/XWR5E33QPd0YmHXoDHOIDR6kL5D3JcQcz0O8FHE00"}}'
    check "unit, an edge: a password is asked for" until_true 10 edge_says 401 private.example.test "$address"
    check "unit, an edge: the right one is known" until_true 10 edge_says 200 private.example.test -u ann:secret "$address"
    check "unit, an edge: a wrong one is not" edge_says 401 private.example.test -u ann:guess "$address"
    check "unit, an edge: reload" unit reload pharos
    check "unit, an edge: and goes on" edge_says 200 app-00000.example.test "$address"
    check "unit, an edge: stops" unit stop pharos
    check "unit, an edge: with exit code 0" [ "$(unit show -P Result pharos) $(unit show -P ExecMainStatus pharos)" = "success 0" ]
}

check_unit_addresses() {
    local ip
    start_node addresses.conf 'upstreams = ["192.0.2.1"]'
    check "unit, addresses.conf: a user of its own with two capabilities" capabilities '0*1400'
    check "unit, addresses.conf: not root" refused in_unit grep -x 'Uid:.0.*' "/proc/$(unit show -P MainPID pharos)/status"
    for ip in 198.51.100.1 198.51.100.2 198.51.100.3; do
        check "unit, addresses.conf: $ip is there" has_address $ip
        check "unit, addresses.conf: $ip answers" until_true 5 resolver_answers $ip
    done
    check "unit, addresses.conf: workers have no capability" until_true 5 workers_are_confined pharos-dns
    note "unit, addresses.conf: on $(beside_unit ip -o address | awk '/198.51.100.1\// { print $2 }')"
    check "unit, addresses.conf: stops" unit stop pharos
    check "unit, addresses.conf: no address is left" refused has_address '198.51.100.[123]'
}

vip_is_local() { beside_unit ip route show table local proto 80 | grep -w "^local $1"; }

check_unit_vips() { # without IPVS, which an engine's machine may lack: a proxy at a virtual address
    in_unit sh -c 'cat >/etc/pharos/vips.toml' <<'END'
[[vip]]
address = "11.1.2.3"
port = 8080
servers = [{ address = "127.0.0.1", port = 8123 }]
END
    start_node vips.conf 'upstreams = ["192.0.2.1"]
[l4]
dataplane = "proxy"
vip_file = "/etc/pharos/vips.toml"'
    check "unit, vips.conf: a user of its own with three capabilities" capabilities '0*3400'
    check "unit, vips.conf: the virtual address is local" until_true 10 vip_is_local 11.1.2.3
    check "unit, vips.conf: and leads to its backend" until_true 5 beside_unit curl -sf -m 3 11.1.2.3:8080/livez
    beside_unit curl -sf http://127.0.0.1:8123/metrics >>/tmp/metrics
    check "unit, vips.conf: stops" unit stop pharos
    check "unit, vips.conf: with it stopped the address stays" vip_is_local 11.1.2.3
}

resolv_conf() { in_unit cat /etc/resolv.conf; }
points_here() { resolv_conf | grep -x 'nameserver 198.51.100.1' >/dev/null; }
is_original() { resolv_conf | cmp - /tmp/resolv.conf.original; }
is_dead() { [ "$(unit is-active pharos)" != active ]; }
getent_says() { [ "$(in_unit getent ahostsv4 "$1" | awk 'NR == 1 { print $1 }')" = "$2" ]; }

check_unit_resolv_conf() {
    local about=resolv-conf.conf
    printf '# of this machine\nsearch example.test\nnameserver 10.0.2.3\noptions edns0\n' >/tmp/resolv.conf.original
    in_unit sh -c 'cat >/etc/resolv.conf' </tmp/resolv.conf.original
    in_unit sh -c 'printf "[Service]\nRestartSec=3s\n" >/etc/systemd/system/pharos.service.d/restart.conf'
    start_node $about 'resolv_conf = "/etc/resolv.conf"'
    check "unit, $about: root with two capabilities" capabilities '0*1400'
    check "unit, $about: state of the other user taken over" in_unit sh -c \
        '[ ! -L /var/lib/pharos ] && [ -z "$(find /var/lib/pharos ! -user root)" ] && [ -e /var/lib/pharos/resolv.conf.saved ]'
    check "unit, $about: its /etc has passwords for nobody" in_unit sh -c '
        inside="nsenter --mount=/proc/$(systemctl show -P MainPID pharos)/ns/mnt" && grep root: /etc/shadow &&
        $inside grep root: /etc/passwd && ! $inside grep root: /etc/shadow'
    check_resolv_conf "mounted, written in place"
    in_unit umount /etc/resolv.conf # below it is an ordinary file, as a machine has it
    in_unit sh -c 'cat >/etc/resolv.conf && chmod 640 /etc/resolv.conf' </tmp/resolv.conf.original
    unit start pharos
    check_resolv_conf "a file, renamed"
    check "unit, $about: the file's mode is as before" [ "$(in_unit stat -c '%a %U:%G' /etc/resolv.conf)" = "640 root:root" ]
    check "unit, $about: nothing is left in /etc" refused in_unit sh -c 'ls -A /etc | grep pharos-'
    in_unit sh -c 'mkdir -p /run/link && mv /etc/resolv.conf /run/link/resolv.conf && ln -s ../run/link/resolv.conf /etc/resolv.conf
        printf "[Service]\nRestartSec=60s\n" >/etc/systemd/system/pharos.service.d/restart.conf' # it need not come back here
    unit daemon-reload
    unit start pharos
    check "unit, $about: in the place of a link: ours" points_here
    unit kill --signal=KILL --kill-who=all pharos
    check "unit, $about: all processes killed: the link is back" until_true 20 in_unit sh -c \
        '[ "$(readlink /etc/resolv.conf)" = ../run/link/resolv.conf ]'
    unit stop pharos
    check "unit, $about: what it leads to is as it was" is_original
    in_unit sh -c 'rm /etc/resolv.conf && cp -p /run/link/resolv.conf /etc/resolv.conf'
    check_power_cut
    start_node addresses.conf 'upstreams = ["192.0.2.1"]'
    check "unit, addresses.conf again: root's state taken over" in_unit sh -c '[ -z "$(find /var/lib/pharos/ -user root)" ]'
    unit stop pharos
}

check_power_cut() { # what the disk then has: our text, the saved original, and here a configuration that is of no use
    unit start pharos
    in_unit sh -c 'until grep -q 198.51.100.1 /etc/resolv.conf; do sleep 0.1; done
        mkdir /cut && cp -a /etc/resolv.conf /var/lib/pharos/resolv.conf.* /cut/'
    unit stop pharos
    in_unit sh -c 'cd /cut && cp -a resolv.conf.* /var/lib/pharos/ && cp -a resolv.conf /etc/ && echo "[dsn]" >>/etc/pharos/pharos.toml'
    check "unit, power cut: it still names the resolver" points_here
    check "unit, power cut: a bad configuration does not start" refused unit start pharos
    check "unit, power cut: original" until_true 5 is_original
    unit stop pharos
}

check_resolv_conf() { # HOW: a running unit's file, until it has stopped
    local about="unit, resolv-conf.conf, $1" pid
    check "$about: it names the resolver" points_here
    check "$about: programs get the cluster's names" until_true 5 getent_says www.mesos 10.1.2.3
    check "$about: and localhost" getent_says localhost 127.0.0.1
    beside_unit curl -sf http://127.0.0.1:8123/metrics >>/tmp/metrics
    unit kill --signal=KILL --kill-who=all pharos
    check "$about: all processes killed: original" until_true 2 is_original
    check "$about: before it is started again" is_dead
    check "$about: started again: ours" until_true 15 points_here
    pid=$(unit show -P MainPID pharos)
    in_unit sh -c "kill -KILL $pid"
    check "$about: main process killed: original" until_true 2 is_original
    check "$about: before it is started again" is_dead
    check "$about: started again: ours" until_true 15 points_here
    check "$about: answers again" until_true 5 getent_says www.mesos 10.1.2.3
    check "$about: reload" unit reload pharos
    check "$about: still ours" points_here
    check "$about: stops" unit stop pharos
    check "$about: with exit code 0" [ "$(unit show -P Result pharos) $(unit show -P ExecMainStatus pharos)" = "success 0" ]
    check "$about: stopped: original, byte for byte" is_original
    check "$about: no address is left" refused has_address '198.51.100.[123]'
}

unit_answers() { [ "$(dig +short +tries=1 +time=2 @"$1" www.mesos)" = 10.1.2.3 ]; }

end() {
    check "compose down" compose down --volumes --timeout 15
    kill "$engine_pid"
    wait "$engine_pid" || true
}

start_engine
build_images
check_image
bring_up
check_names
check_node
check_edge
check_http
check_confinement
check_prometheus
check_node_alone
check_operation
check_host_node
check_unit
check "every metric in the rules exists" rules_metrics
end
say "--- summary"
printf '%s\n' "${summary[@]}"
