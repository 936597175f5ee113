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
    in_image '! find /run/secrets -type f 2>/dev/null | grep -q . && ! env | grep -Ei "^PIP_|proxy"' || return
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

bring_up() {
    local start=$SECONDS
    check "compose file is valid" compose config -q
    check "Prometheus' configuration and rules are valid" promtool check config /pharos/docker/prometheus.yml
    check "the alerts' tests pass" promtool test rules /pharos/docker/alerts_test.yml
    compose up -d --no-build >/var/log/up.log 2>&1 || { cat /var/log/up.log >&2; fail "compose up"; }
    until_true 30 is pharos '{{.State.Health.Status}}' healthy || fail "Pharos is not healthy"
    note "compose up: simulator healthy, Pharos ready, Prometheus started in $((SECONDS - start)) s"
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

check_http() {
    check "/livez and /readyz say 200" curl -sf -o /dev/null "$api/livez" -o /dev/null "$api/readyz"
    check "the tasks are in /v1/tasks" says "$api/v1/tasks" 'len(d if isinstance(d, list) else d["tasks"]) >= 450'
    check "[admin] answers inside the container" pharos status
    check "[admin] is closed from other containers" refused docker exec "$(id_of simulator)" \
        python -c 'import socket; socket.create_connection(("pharos", 8124), timeout=2)'
}

check_confinement() {
    local service
    for service in simulator pharos; do
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
    check "Prometheus: target pharos is up" until_true 30 says "$prometheus/api/v1/targets" \
        '[t["health"] for t in d["data"]["activeTargets"]] == ["up"]'
    check "Prometheus: the source is connected" until_true 20 metric "pharos_source_connected" \
        '[x["value"][1] for x in r] == ["1"]'
    check "Prometheus: every alert rule evaluates" until_true 30 says "$prometheus/api/v1/rules" \
        'all(x["health"] == "ok" for g in d["data"]["groups"] for x in g["rules"])'
    check "Prometheus: no alert" says "$prometheus/api/v1/alerts" 'd["data"]["alerts"] == []'
    check "every metric in the rules exists" rules_metrics
}

rules_metrics() { # a rule over a metric that nobody serves would never fire
    local name
    curl -sf "$api/metrics" >/tmp/metrics
    grep -v '^ *#' /pharos/docker/alerts.yml | grep -oE '\bpharos_[a-z0-9_]+' | sort -u >/tmp/names
    [ -s /tmp/names ] || return 1
    while read -r name; do
        grep -qE "^(# TYPE )?$name( |\{)" /tmp/metrics || { echo "$name"; return 1; }
    done </tmp/names
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
        '[x["value"][1] for x in r] == ["0"]'
    start=$SECONDS
    docker stop -t 15 "$id" >/dev/null
    check "stopped in $((SECONDS - start)) s, exit code 0" is pharos '{{.State.ExitCode}}' 0
    docker start "$id" >/dev/null
    check "started again without the cluster: $task_name answers from the saved state" until_true 15 answers "$task_name"
    compose up -d --no-build simulator >/dev/null 2>&1
    check "cluster back: the source is connected" until_true 30 says_connected
}

logged() { docker logs "$1" 2>&1 | grep "$2"; } # not -q: that would end docker logs by a signal
says_connected() { curl -sf "$api/metrics" | grep -qE '^pharos_source_connected(\{.*\})? 1(\.0)?$'; }

# --- the systemd unit ---------------------------------------------------------------------------

build_systemd() { # an image with a real systemd in which the unit is installed as docker/README.md says
    local here=/tmp/unit
    mkdir $here
    cp /pharos/docker/pharos.service $here/
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
    docker run -d --name pharos-unit --cap-add SYS_ADMIN --security-opt seccomp=unconfined \
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
    docker rm -f pharos-unit >/dev/null
    note "unit: under systemd $(docker run --rm pharos-systemd:proof systemctl --version | awk 'NR == 1 { print $2 }')," \
        "$((SECONDS - start)) s"
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
check_http
check_confinement
check_prometheus
check_operation
check_unit
end
say "--- summary"
printf '%s\n' "${summary[@]}"
