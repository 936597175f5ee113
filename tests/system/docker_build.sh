#!/bin/bash
# Proves docker/ by a real engine: builds the image, runs the compose file, asks what came up.
#
# No image can be pulled everywhere, so everything comes from Debian's packages: the base image is Debian's
# smallest system, the engine is Debian's docker.io (with docker-compose 1.29, the oldest that the compose
# file is meant for), and Debian's Prometheus stands in for the pinned image.
#
# The engine lives in a small system of its own, in its own mount, process and network namespaces, which end
# with this script, whatever happens. It reaches the network by user-mode networking (slirp4netns) and takes
# its package sources, proxies and certificates from this machine; they get into no image, which is checked.
# Needs root and /dev/net/tun (exit code 77 without them: nothing was proven) and Debian 12. Both systems are kept in PHAROS_CI_CACHE (default
# /var/cache/pharos-ci); with them it takes three minutes and a half, without them up to seven. docker_checks.sh has the checks.
set -euo pipefail

tests=$(cd "$(dirname "$0")" && pwd)
repo=$(cd "$tests/../.." && pwd)
cache=${PHAROS_CI_CACHE:-/var/cache/pharos-ci}
suite=bookworm
format=1 # of what is kept: a new number makes it anew
packages=(bind9-dnsutils ca-certificates curl docker-compose docker.io iproute2 iptables kmod prometheus slirp4netns)

say() { printf 'docker: %s\n' "$*" >&2; }
fail() { say "FAILED: $*"; exit 1; }

# --- the two systems, made once -----------------------------------------------------------------

mirror() { # where this machine gets Debian from, when it is of the same release; else debootstrap's default
    # shellcheck disable=SC2016  # apt's own variables
    apt-get indextargets --format '$(REPO_URI) $(CODENAME) $(COMPONENT)' 'Created-By: Packages' 2>/dev/null |
        awk -v suite="$suite" '$2 == suite && $3 == "main" { print $1; exit }'
}

same_release() {
    # shellcheck disable=SC1091
    [ "$(. /etc/os-release && echo "${VERSION_CODENAME:-}")" = "$suite" ]
}

copy_if_there() { # FILE-OR-DIRECTORY…: to the same place in the engine's system
    local path
    for path in "$@"; do
        [ -e "$path" ] || continue
        mkdir -p "$engine$(dirname "$path")"
        cp -RLT "$path" "$engine$path"
    done
}

slim() { # TREE: without what a container has no use for, as Debian's own slim images
    rm -rf "$1"/var/cache/apt/archives/*.deb "$1"/var/cache/apt/*.bin "$1"/var/lib/apt/lists/* \
        "$1"/usr/share/{doc,info,lintian,locale,man}/* "$1"/var/log/{apt,*.log}
}

keep() { # TREE FILE
    tar -C "$1" --one-file-system -cf "$2.new" .
    mv "$2.new" "$2"
}

make_systems() { # the base image's files and, on top of them, the engine's system
    local made
    [ ! -e "$kept_base" ] || [ ! -e "$kept_engine" ] || return 0
    if ! command -v debootstrap >/dev/null; then
        say "installing debootstrap"
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends debootstrap >/dev/null
    fi
    say "making the base system (kept in $cache)"
    made=$(mirror)
    debootstrap --variant=minbase "$suite" "$engine" ${made:+"$made"} >"$work/debootstrap.log" 2>&1 ||
        { tail -20 "$work/debootstrap.log" >&2; fail debootstrap; }
    slim "$engine"
    # What is installed on top of it later leaves these out, too.
    printf 'path-exclude /usr/share/%s/*\n' doc info lintian locale man >"$engine/etc/dpkg/dpkg.cfg.d/slim"
    keep "$engine" "$kept_base"

    say "installing the engine into it: ${packages[*]}"
    if same_release; then
        rm -rf "$engine"/etc/apt/sources.list "$engine"/etc/apt/sources.list.d
        copy_if_there /etc/apt
    fi
    copy_if_there /etc/resolv.conf /etc/hosts /usr/local/share/ca-certificates
    printf '#!/bin/sh\nexit 101\n' >"$engine/usr/sbin/policy-rc.d" # no service is started
    chmod +x "$engine/usr/sbin/policy-rc.d"
    mount -t proc proc "$engine/proc"
    chroot "$engine" sh -c "export DEBIAN_FRONTEND=noninteractive; apt-get update -qq &&
        apt-get install -y -qq --no-install-recommends ${packages[*]}" >"$work/apt.log" 2>&1 ||
        { tail -20 "$work/apt.log" >&2; fail "apt-get install"; }
    umount "$engine/proc"
    slim "$engine"
    keep "$engine" "$kept_engine"
    find "$engine" -mindepth 1 -delete
}

# --- what the build is told about this machine, as secrets ---------------------------------------

setting_files() { # into $engine/run/build: apt_conf apt_sources pip_conf ca, as far as there are any
    local here=$engine/run/build file
    mkdir -p "$here"
    if same_release; then
        # shellcheck disable=SC2016  # apt's own variables
        apt-get indextargets --format 'deb $(REPO_URI) $(CODENAME) $(COMPONENT)' 'Created-By: Packages' |
            awk -v suite="$suite" 'index($3, suite) == 1 && $4 == "main"' | sort -u >"$here/apt_sources"
        {
            apt-config dump --format '%F "%v";%n' Acquire | grep -E '^Acquire::(https?|Check-|Retries)' | grep -v '"";$'
            echo 'Dir::Etc::sourcelist "/run/secrets/apt_sources";'
        } >"$here/apt_conf"
    fi
    for file in /etc/pip.conf /root/.pip/pip.conf /root/.config/pip/pip.conf; do
        [ ! -e "$file" ] || cp -L "$file" "$here/pip_conf"
    done
    for file in "${PIP_CERT:-}" "${SSL_CERT_FILE:-}"; do
        [ -z "$file" ] || [ ! -e "$file" ] || { cp -L "$file" "$here/ca"; break; }
    done
    # Proxies and an index from the environment: predefined or declared arguments of the build.
    compgen -e | grep -E '^(PIP_(EXTRA_)?INDEX_URL|PIP_TRUSTED_HOST|(https?|no|all)_proxy|(HTTPS?|NO|ALL)_PROXY)$' \
        >"$here/arguments" || true
}

# --- the engine's machine -----------------------------------------------------------------------

start_network() { # sets netns: an empty network with a way out
    local try
    unshare --net sleep infinity &
    netns=/proc/$!/ns/net
    for try in $(seq 100); do
        [ "$(readlink "$netns")" = "$(readlink /proc/self/ns/net)" ] || break
        sleep 0.05
    done
    chroot "$engine" slirp4netns --configure --mtu=1400 "${netns//[!0-9]/}" tap0 >"$work/slirp4netns.log" 2>&1 &
    for try in $(seq 100); do
        if nsenter --net="$netns" ip -4 addr show dev tap0 2>/dev/null | grep -q inet; then
            nsenter --net="$netns" ip link set lo up
            return
        fi
        sleep 0.05
    done
    cat "$work/slirp4netns.log" >&2
    fail "slirp4netns did not come up ($try tries)"
}

inside() { # in our own mount and process namespaces, still in this machine's network
    local revision
    exec 8>"$cache/docker-lock"
    flock 8
    mkdir "$engine"
    make_systems
    tar -C "$engine" -xpf "$kept_engine"
    mkdir -p "$engine/pharos"
    git -C "$repo" archive HEAD | tar -C "$engine/pharos" -x
    revision=$(git -C "$repo" rev-parse --short HEAD)
    mount --bind "$engine" "$engine"
    mount -t proc proc "$engine/proc"
    mount --rbind /dev "$engine/dev"
    mount --rbind /sys "$engine/sys"
    mount -t tmpfs run "$engine/run"
    copy_if_there /etc/resolv.conf
    setting_files
    ln -f "$kept_base" "$engine/base.tar" 2>/dev/null || cp "$kept_base" "$engine/base.tar"
    cp "$tests/docker_checks.sh" "$engine/checks.sh"
    start_network
    # Not chroot: the engine changes roots itself, which the kernel allows only from a real one.
    # shellcheck disable=SC2016  # the inner shell's own
    nsenter --net="$netns" unshare --mount --propagation private sh -c '
        cd "$0" && mkdir -p old && pivot_root . old && cd / && umount -l old && rmdir old &&
        exec /usr/bin/env -i HOME=/root LANG=C.UTF-8 \
            PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin '"$(proxies)"' \
            /bin/bash /checks.sh "$@"' "$engine" "$work_name" "$revision"
}

proxies() { # NAME='VALUE' … of the environment, for the inner shell
    local name
    while read -r name; do printf "%s=%q " "$name" "${!name}"; done <"$engine/run/build/arguments"
}

remove_cgroups() { # those that the engine made for its containers; empty by now
    local try
    for try in $(seq 20); do
        find /sys/fs/cgroup -depth -type d -path "*/$work_name*" -exec rmdir {} + 2>/dev/null || true
        [ -n "$(find /sys/fs/cgroup -type d -name "$work_name" 2>/dev/null)" ] || return 0
        sleep 0.1
    done
    say "control groups of $work_name stayed ($try tries)"
}

[ "$(id -u)" -eq 0 ] || { say "not run: needs root"; exit 77; }
[ -c /dev/net/tun ] || { say "not run: needs /dev/net/tun, from which the engine's network is made"; exit 77; }
kept_base=$cache/docker-base-$suite-$(dpkg --print-architecture)-$format.tar
kept_engine=$cache/docker-engine-$suite-$(dpkg --print-architecture)-$format.tar

if [ "${1:-}" != --inside ]; then
    mkdir -p "$cache"
    work=$(mktemp -d /var/tmp/pharos-docker.XXXXXX)
    work_name=${work##*/}
    trap 'remove_cgroups; rm -rf --one-file-system "$work"' EXIT
    unshare --mount --propagation private --pid --fork --kill-child --mount-proc "$0" --inside "$work"
    say "ok, $SECONDS s"
    exit
fi

work=$2
work_name=${work##*/}
engine=$work/engine
inside
