#!/usr/bin/env bash
# The arm64 package on a fresh arm64 Debian, its programs run by qemu on this machine: install, set up, inspect, alarms at a broker, purge.
# Needs root and Debian's archive; `make package-test ARCH=arm64` calls it.
set -euo pipefail
cd "$(dirname "$0")/.."
target=$(realpath "${CARGO_TARGET_DIR:-target}")
work="$target/package" root="$target/package/root-arm64"
new=$(ls -t "$target"/debian/inspectd_*_arm64.deb | head -n 1)
. /etc/os-release
codename=$VERSION_CODENAME components=main
[ "$ID" != ubuntu ] || components+=,universe
say() { printf '==> %s\n' "$*"; }
fail() { printf 'FAILED: %s\n' "$*" >&2; exit 1; }
[ "$(id -u)" = 0 ] || fail "root is needed, for chroot"
mkdir -p "$work"

if [ ! -f "$work/fresh-arm64.tar" ]; then
  say "a fresh $codename of arm64, some minutes"
  mmdebstrap --quiet --format=tar --components="$components" --variant=minbase --architectures=arm64 --include=ca-certificates "$codename" "$work/fresh-arm64.tar.part"
  mv "$work/fresh-arm64.tar.part" "$work/fresh-arm64.tar"
fi
rm -rf "$root" && mkdir -p "$root"
tar -C "$root" -xf "$work/fresh-arm64.tar"
cp "$new" "$root/new.deb"
cp /etc/resolv.conf "$root/etc/resolv.conf" 2>/dev/null || true

# The processor of a Raspberry Pi 4: qemu before 8.1 shows programs this machine's own, in which ONNX Runtime finds none of arm64.
for n in 0 1; do
  printf 'processor\t: %d\nFeatures\t: fp asimd evtstrm crc32 cpuid\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: 0xd08\nCPU revision\t: 3\n\n' "$n"
done >"$work/cpuinfo"
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
printf 'listener %s 127.0.0.1\nallow_anonymous true\n' "$port" >"$work/mosquitto.conf"
mosquitto -c "$work/mosquitto.conf" >"$work/mosquitto.log" 2>&1 &
broker=$!
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
until mosquitto_pub -p "$port" -t up -n 2>/dev/null; do kill -0 "$broker" || fail "no broker: $(cat "$work/mosquitto.log")"; sleep 0.2; done
mosquitto_sub -p "$port" -t 'inspect/v1/+/+/events' >"$work/events" &

cat >"$work/inside.sh" <<'INSIDE'
set -euo pipefail
port=$1
export DEBIAN_FRONTEND=noninteractive QEMU_CPU=cortex-a72
dpkg-query -W -f '${Architecture} ${Package}\n' libc6
apt-get -qq update
apt-get install -y -qq --no-install-recommends /new.deb >/tmp/install.log 2>&1 || { tail /tmp/install.log; exit 1; }
inspectd --version
inspectd completions bash >/dev/null
inspectd setup --yes --site arm --gateway g --broker "mqtt://127.0.0.1:$port" --camera line=synthetic
inspectd run --config /etc/inspectd/inspectd.toml >/tmp/run.log 2>&1 &
pid=$!
# An emulated forward pass takes seconds.
for _ in $(seq 300); do grep -q ' Raised ' /tmp/run.log && break; kill -0 "$pid"; sleep 1; done
sleep 20
kill -TERM "$pid"
wait "$pid" || { tail /tmp/run.log; exit 1; }
tail -n 3 /tmp/run.log
# Here a forward pass takes seconds, so that one is under way at the end: nothing may pull the ground from under it.
if grep 'Non-zero status' /tmp/run.log; then exit 1; fi
apt-get purge -y -qq inspectd >/dev/null 2>&1
left=$(find / -xdev -name '*inspectd*' -not -path '/proc/*' -not -path '/tmp/*')
[ -z "$left" ] || { echo "left behind: $left"; exit 1; }
INSIDE
cp "$work/inside.sh" "$root/inside.sh"
say "install, set up, run, purge"
unshare --mount --pid --fork bash -c '
  set -e
  mount --make-rprivate /
  mount --bind "$1" "$1"
  mount -t proc proc "$1/proc"
  mount --bind "$2" "$1/proc/cpuinfo"
  mount --rbind /sys "$1/sys"
  mount -t tmpfs none "$1/dev"
  for n in null zero full random urandom; do touch "$1/dev/$n"; mount --bind "/dev/$n" "$1/dev/$n"; done
  mkdir "$1/dev/shm" && ln -s /proc/self/fd "$1/dev/fd"
  exec chroot "$1" /bin/bash /inside.sh "$3"' bash "$root" "$work/cpuinfo" "$port"
events=$(wc -l <"$work/events")
[ "$events" -gt 0 ] || fail "no alarm came"
say "$events events came from a gateway of arm64, among them"
grep -o '"class":"[^"]*"' "$work/events" | sort | uniq -c | sort -rn | head -n 3
rm -rf "$root"
