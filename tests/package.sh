#!/usr/bin/env bash
# The package on a fresh Debian: debootstrap, systemd as its first process in namespaces of its own, and then what a technician does:
# install, set up, start, upgrade, remove, purge. Needs root and Debian's archive; `make package-test` calls it.
#   PREVIOUS=FILE.deb  what is upgraded from (else this very package under an older revision)   DATA=folder of pictures
set -euo pipefail
cd "$(dirname "$0")/.."
target=$(realpath "${CARGO_TARGET_DIR:-target}")
work="$target/package" root="$target/package/root"
data=${DATA:-../shared/data/kolektor_sdd}
# Without real pictures those of the documentation will do.
[ -d "$data" ] || data=docs/console
[ ! -d "$data/images" ] || data=$data/images
data=$(realpath "$data")
new=$(ls -t "$target"/debian/inspectd_*_"$(dpkg --print-architecture)".deb | head -n 1)
say() { printf '==> %s\n' "$*"; }
fail() { printf 'FAILED: %s\n' "$*" >&2; exit 1; }
[ "$(id -u)" = 0 ] || fail "root is needed, for namespaces and chroot"

mkdir -p "$work"
if [ ! -f "$work/fresh.tar" ]; then
  say "debootstrap bookworm"
  rm -rf "$root"
  debootstrap --variant=minbase --include=systemd,udev,ca-certificates,mosquitto,mosquitto-clients,procps bookworm "$root" >"$work/debootstrap.log"
  chroot "$root" apt-get -qq update
  # Of the package's dependencies the files alone: installed they are later, by the package.
  cp "$new" "$root/inspectd.deb"
  chroot "$root" apt-get install -y -qq --no-install-recommends --download-only /inspectd.deb >/dev/null
  rm "$root/inspectd.deb"
  tar -C "$root" -cf "$work/fresh.tar" .
fi
say "a fresh Debian"
rm -rf "$root" && mkdir -p "$root"
tar -C "$root" -xf "$work/fresh.tar"
mkdir -p "$root/srv/pictures" "$root/packages"
cp "$new" "$root/packages/new.deb"
if [ -n "${PREVIOUS:-}" ]; then
  cp "$PREVIOUS" "$root/packages/old.deb"
else
  rm -rf "$work/old" && dpkg-deb -R "$new" "$work/old"
  sed -i 's/^Version: .*/Version: 0.0.9-1/' "$work/old/DEBIAN/control"
  # Files that the next version changes: nobody may be asked about them.
  echo '# of old' | tee -a "$work/old/etc/inspectd/inspectd.example.toml" >>"$work/old/usr/share/inspectd/gateway.toml"
  dpkg-deb -b "$work/old" "$root/packages/old.deb" >/dev/null
fi
cp tests/package-inside.sh "$root/packages/"

cat >"$work/boot.sh" <<'BOOT'
set -e
root=$1 data=$2
mount --make-rprivate /
mount --bind "$root" "$root"
mount --rbind "$data" "$root/srv/pictures"
mount -o remount,bind,ro "$root/srv/pictures"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=755 none "$root/dev"
for n in null zero full random urandom tty; do touch "$root/dev/$n"; mount --bind "/dev/$n" "$root/dev/$n"; done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
mount -t tmpfs none "$root/dev/shm"
mount -t tmpfs -o mode=755 none "$root/run"
mount -t sysfs sysfs "$root/sys" -o ro || mount --rbind /sys "$root/sys"
mount -t tmpfs -o mode=755 none "$root/sys/fs/cgroup"
mkdir "$root/sys/fs/cgroup/systemd"
mount -t cgroup -o none,name=systemd cgroup "$root/sys/fs/cgroup/systemd"
ip link set lo up
rm -rf "$root"/usr/lib/systemd/system/*.target.wants "$root"/etc/systemd/system/*.wants
cat >"$root/etc/systemd/system/bare.target" <<'T'
[Unit]
DefaultDependencies=no
Requires=systemd-journald.socket systemd-journald.service
After=systemd-journald.service
T
mkdir -p "$root/var/log/journal" "$root/before"
# Not chroot: a process in one may make no user namespaces, which PrivateUsers= needs.
cd "$root"
pivot_root . before
umount -l /before
mount --make-rshared /
exec env -i container=docker PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system --unit=bare.target --show-status=0 \
  --log-target=journal
BOOT
unshare --mount --pid --net --ipc --uts --fork --kill-child bash "$work/boot.sh" "$root" "$data" >"$work/boot.log" 2>&1 &
boot=$!
first=
# With the first process of the namespace all of it ends.
trap 'kill -9 ${first:-$boot} 2>/dev/null || true; wait "$boot" 2>/dev/null || true' EXIT
enter() { nsenter -t "$first" -m -p -n -i -u -r -w "$@"; }
for _ in $(seq 100); do
  first=$(pgrep -P "$boot" || true)
  [ -n "$first" ] && enter /usr/bin/systemctl is-system-running 2>/dev/null | grep -qE 'running|degraded' && break
  sleep 0.2
done
[ -n "$first" ] || { cat "$work/boot.log"; fail "systemd does not start"; }
say "systemd runs: $(enter /usr/bin/systemctl --version | head -n 1)"
enter /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 \
  bash /packages/package-inside.sh
