#!/bin/bash
# Proves README's two commands on a bare machine: Debian 12's smallest system with git and nothing else.
#
#   1. as root:              ./dev demo --seconds 20, and of ./dev test --quick what depends on rights and the build
#   2. as an ordinary user:  ./dev demo prints one apt line and exits 2; root runs that line;
#                            then ./dev demo --seconds 20, and of ./dev test --quick the unit tests of agent and of
#                            lb7's processes and sockets
#
# Each part gets a fresh tree and a fresh clone of HEAD. The trees take their package sources, proxies and
# certificates from this machine. Needs root. Everything is mounted in a mount namespace and every process
# runs in a process namespace that end with this script, whatever happens.
# The small system and pip's downloads are kept in PHAROS_CI_CACHE (default /var/cache/pharos-ci).
set -euo pipefail

repo=$(cd "$(dirname "$0")/../.." && pwd)
cache=${PHAROS_CI_CACHE:-/var/cache/pharos-ci}
suite=bookworm
user=ada

say() { printf 'bare machine: %s\n' "$*" >&2; }
fail() { say "FAILED: $*"; exit 1; }

[ "$(id -u)" -eq 0 ] || { say "needs root"; exit 2; }

install_debootstrap() {
    command -v debootstrap >/dev/null && return
    say "installing debootstrap"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends debootstrap >/dev/null
}

mirror() { # where this machine gets Debian from, when it is of the same release; else debootstrap's default
    # shellcheck disable=SC2016  # apt's own variables
    apt-get indextargets --format '$(REPO_URI) $(CODENAME) $(COMPONENT)' 'Created-By: Packages' 2>/dev/null |
        awk -v suite="$suite" '$2 == suite && $3 == "main" { print $1; exit }'
}

smallest_system() { # the tarball, made once
    local tree made
    tarball=$cache/$suite-$(dpkg --print-architecture)-git.tar
    [ -e "$tarball" ] && return
    install_debootstrap
    say "making Debian's smallest system with git (kept in $cache)"
    tree=$work/first
    made=$(mirror)
    debootstrap --variant=minbase --include=git "$suite" "$tree" ${made:+"$made"} >"$work/debootstrap.log" 2>&1 ||
        { tail -20 "$work/debootstrap.log" >&2; fail debootstrap; }
    rm -rf "$tree"/var/cache/apt/archives/*.deb
    tar -C "$tree" -cf "$tarball.new" .
    mv "$tarball.new" "$tarball"
    rm -rf "$tree"
}

copy_if_there() { # FILE-OR-DIRECTORY…: to the same place in the tree
    local path
    for path in "$@"; do
        [ -e "$path" ] || continue
        mkdir -p "$tree$(dirname "$path")"
        cp -RLT "$path" "$tree$path"
    done
}

copy_network_settings() {
    # shellcheck disable=SC1091
    if [ "$(. /etc/os-release && echo "${VERSION_CODENAME:-}")" = "$suite" ]; then
        rm -rf "$tree"/etc/apt/sources.list "$tree"/etc/apt/sources.list.d
        copy_if_there /etc/apt
    fi
    # The certificates both as they are and as what makes them, for when the package ca-certificates comes in.
    copy_if_there /etc/resolv.conf /etc/hosts /etc/pip.conf /root/.config/pip /root/.pip \
        /etc/ssl/certs/ca-certificates.crt /usr/local/share/ca-certificates
}

fresh_tree() { # NAME: sets tree; an ordinary user with a home exists in it
    tree=$work/$1
    mkdir "$tree"
    tar -C "$tree" -xpf "$tarball"
    copy_network_settings
    mount -t proc proc "$tree/proc"
    mount --rbind /dev "$tree/dev"
    chroot "$tree" useradd --create-home --shell /bin/sh "$user"
    [ ! -d /root/.config/pip ] || install -d -o 1000 -g 1000 "$tree/home/$user/.config"
    [ ! -d /root/.config/pip ] || cp -RL /root/.config/pip "$tree/home/$user/.config/pip"
    mkdir -p "$cache/pip-$1" "$tree/var/cache/pip"
    mount --bind "$cache/pip-$1" "$tree/var/cache/pip"
}

inside() { # USER COMMAND: runs it in the clone (or home), with this machine's proxy settings and nothing else
    local who=$1 home=/home/$1 settings=() name
    [ "$who" != root ] || home=/root
    for name in $(compgen -e); do
        case $name in
        PIP_CACHE_DIR) ;;
        PIP_* | SSL_CERT_FILE | REQUESTS_CA_BUNDLE | CURL_CA_BUNDLE | [a-z]*_proxy | [A-Z]*_PROXY)
            settings+=("$name=${!name}") ;;
        esac
    done
    chroot --userspec="$who:$who" "$tree" /usr/bin/env -i "HOME=$home" "USER=$who" LANG=C.UTF-8 CI=true \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin PIP_CACHE_DIR=/var/cache/pip \
        "${settings[@]}" /bin/sh -c "cd $home/${3:-pharos} && $2" </dev/null
}

clone_as() { # USER
    local home=/home/$1
    [ "$1" != root ] || home=/root
    git clone -q --bare --no-hardlinks "$repo" "$tree$home/pharos.git"
    git -C "$tree$home/pharos.git" update-ref --no-deref HEAD "$(git -C "$repo" rev-parse HEAD)"
    chroot "$tree" chown -R "$1:" "$home/pharos.git" /var/cache/pip
    inside "$1" "git clone -q pharos.git pharos" .
}

timed() { # WHAT COMMAND…
    local what=$1 start=$SECONDS
    shift
    say "$what …"
    "$@" || fail "$what: exit code $?"
    say "$what: ok, $((SECONDS - start)) s"
}

demo() { # USER: the demo ends by itself, and has said something
    inside "$1" "./dev demo --seconds 20" | tee "$work/demo.out" || return
    [ -s "$work/demo.out" ] || fail "demo printed nothing"
}

as_root() {
    fresh_tree root
    clone_as root
    timed "root: ./dev demo --seconds 20" demo root
    timed "root: ./dev test --quick, a part" inside root \
        "./dev test --quick -k 'test_service or native or worker or demo or checks'"
}

as_user() {
    local code=0 line
    fresh_tree user
    clone_as "$user"
    say "user: ./dev demo without packages …"
    inside "$user" "./dev demo" >"$work/refused.out" 2>"$work/refused" || code=$?
    cat "$work/refused" >&2
    [ "$code" -eq 2 ] || fail "./dev demo without packages: exit code $code instead of 2"
    line=$(grep '^apt-get ' "$work/refused") || fail "no apt line"
    [ "$(printf '%s\n' "$line" | wc -l)" -eq 1 ] || fail "more than one apt line"
    timed "root: the printed line" inside root "DEBIAN_FRONTEND=noninteractive; export DEBIAN_FRONTEND; { $line; } >/tmp/apt.log 2>&1 || { cat /tmp/apt.log; exit 1; }" .
    timed "user: ./dev demo --seconds 20" demo "$user"
    # What holds for whoever asks is proven by the whole suite.
    timed "user: ./dev test --quick, a part" inside "$user" \
        "./dev test --quick --ignore tests/property --ignore tests/conversation --ignore tests/unit/lb4 --ignore tests/unit/mesos_dns -k 'agent and not zookeeper or test_worker or sockets or confinement'"
}

if [ "${1:-}" != --inside ]; then
    mkdir -p "$cache"
    work=$(mktemp -d /var/tmp/pharos-bare.XXXXXX)
    trap 'rm -rf --one-file-system "$work"' EXIT
    unshare --mount --propagation private --pid --fork --kill-child --mount-proc "$0" --inside "$work"
    exit
fi

work=$2
exec 8>"$cache/lock"
flock 8 # two runs would share pip's downloads
smallest_system
as_root
as_user
say "ok, $SECONDS s"
