# What package.sh runs in the fresh Debian.
set -euo pipefail
say() { printf '==> %s\n' "$*"; }
fail() {
  printf 'FAILED: %s\n' "$*" >&2
  journalctl -u inspectd -n 40 --no-pager >&2 || true
  exit 1
}
eventually() { # seconds, what, command …
  local until=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$until" ] || fail "not in time: $what"
    sleep 0.5
  done
}
install() { apt-get install -y -qq --no-install-recommends "$@" >/tmp/apt.log 2>&1 || { cat /tmp/apt.log; fail "apt-get install $*"; }; }
# All files, without what a package manager, a journal or the broker write for themselves.
files() {
  find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp -o -path /var/cache -o -path /var/log -o -path /packages \
    -o -path /srv -o -path /var/lib/dpkg -o -path /var/lib/apt -o -path /var/lib/mosquitto -o -path /var/lib/systemd \) -prune -o -print | sort
}
state() { mosquitto_sub -t 'inspect/v1/plant-1/gateway-1/state' -C 1 -W 5; }
camera() { mosquitto_sub -t 'inspect/v1/plant-1/gateway-1/cameras/pictures/state' -C 1 -W 5; }
number() { sed -nE "s/.*\"$1\":([0-9]+).*/\\1/p"; }
inspected() { [ "$(camera | number inspected)" -ge "$1" ]; }

echo '127.0.0.1 localhost' >>/etc/hosts
printf 'listener 1883 127.0.0.1\nallow_anonymous true\n' >/etc/mosquitto/conf.d/plain.conf
systemctl start mosquitto
# Dependencies first and apart, so that what is left in the end is the package's own.
dpkg-deb -f /packages/new.deb Depends | tr ',' '\n' | sed -E 's/\(.*//; s/ //g' | xargs apt-get install -y -qq --no-install-recommends >/dev/null 2>&1
files >/tmp/before

say "install $(dpkg-deb -f /packages/old.deb Version)"
install /packages/old.deb
[ "$(systemctl is-enabled inspectd || true)" = disabled ] || fail "it is enabled by itself"
[ "$(systemctl is-active inspectd || true)" = inactive ] || fail "it runs by itself"
inspectd check --config /etc/inspectd/inspectd.toml && fail "what comes with the package is no configuration" || [ $? = 78 ] || fail "code"
[ "$(stat -c %a /etc/inspectd/secrets)" = 700 ] || fail "secrets can be read"

say "links of the documentation lead somewhere"
for page in /usr/share/doc/inspectd/README.md /usr/share/doc/inspectd/docs/*.md; do
  { grep -oE '\]\([^):#]+' "$page" || true; } | sed 's/^](//' | sort -u | while read -r link; do
    # Sources are in the repository alone.
    case $link in agent/*) continue ;; esac
    [ -e "$(dirname "$page")/$link" ] || fail "$page: $link is not there"
  done
done

say "the units: exposure 1.5 at most, nothing to complain about"
systemd-analyze verify --man=no inspectd.service inspectd-console.service
systemd-analyze security --offline=true --threshold=15 --no-pager inspectd.service inspectd-console.service | tail -n 1
for unit in inspectd inspectd-console; do
  echo "$unit: $(systemd-analyze security --offline=true --no-pager $unit.service | tail -n 1)"
  [ -f "/usr/share/man/man1/$unit.1.gz" ] || grep -q 'path-exclude.*man' /etc/dpkg/dpkg.cfg.d/* 2>/dev/null || fail "no man page $unit"
done

say "set up, check, start"
mosquitto_sub -t 'inspect/v1/#' -v >/tmp/messages &
if inspectd setup --help >/dev/null 2>&1; then
  inspectd setup --yes --site plant-1 --gateway gateway-1 --broker mqtt://localhost:1883 --camera pictures=/srv/pictures
else # of a time before it had that
  cat >>/etc/inspectd/inspectd.toml <<'T'
[[cameras]]
name = "pictures"
source.folder = { path = "/srv/pictures" }
T
fi
sed -i 's/source.folder = { path = \(.*\) }/source.folder = { path = \1, loop = true, rate = 20.0 }/' /etc/inspectd/inspectd.toml
systemctl enable -q inspectd 2>/dev/null
systemctl start inspectd || fail "it does not start"
eventually 30 "pictures are inspected" inspected 60
systemctl --no-pager status inspectd | sed -n '/Active:/p;/Status:/p;/Memory:/p'
pid=$(systemctl show -P MainPID inspectd)
[ "$(stat -c %U "/proc/$pid")" != root ] || fail "it runs as root"
grep -E '^(NoNewPrivs|CapEff|Seccomp):' "/proc/$pid/status" | tr '\n' ' '
echo "user $(stat -c %U "/proc/$pid")"
[ ! -e /root/.cache/Microsoft ] || fail "the runtime has written into a home folder"
events=$(grep -c '/events ' /tmp/messages || true)
echo "events so far: $events; state: $(state | cut -c1-160)"

sum=$(sha256sum /etc/inspectd/inspectd.toml)
appended=$(state | number appended)

say "upgrade to $(dpkg-deb -f /packages/new.deb Version)"
install /packages/new.deb
[ "$(sha256sum /etc/inspectd/inspectd.toml)" = "$sum" ] || fail "the configuration was changed"
eventually 30 "the new one runs" systemctl is-active -q inspectd
[ "$(systemctl show -P MainPID inspectd)" != "$pid" ] || fail "the old one still runs"
eventually 30 "pictures are inspected" inspected 60
[ "$(state | number appended)" -ge "$appended" ] || fail "the queue was begun anew"
journalctl -u inspectd --no-pager -o cat | grep 'goes on with what' >/dev/null || fail "what was learned is gone"
journalctl -u inspectd --no-pager -o cat -p warning -n 5

say "reload, a wrong file, a stage's end"
sed -i 's/rate = 20.0/rate = 10.0/' /etc/inspectd/inspectd.toml
systemctl reload inspectd
eventually 10 "the reload is logged" sh -c "journalctl -u inspectd -o cat --no-pager | grep -q 'rate: 20.0 -> 10.0'"
cp /etc/inspectd/inspectd.toml /tmp/right.toml
sed -i 's/rate = 10.0/rate = "fast"/' /etc/inspectd/inspectd.toml
systemctl reload inspectd 2>/dev/null && fail "a wrong file was taken" || true
eventually 10 "the journal says what is wrong, as an error" sh -c "journalctl -u inspectd -o cat -p err --no-pager | grep 'WRONG configuration: .*rate'"
systemctl is-active -q inspectd || fail "a wrong file has ended it"
cp /tmp/right.toml /etc/inspectd/inspectd.toml
systemctl reload inspectd
kill -9 "$(systemctl show -P MainPID inspectd)"
eventually 20 "it is started anew" sh -c '[ "$(systemctl show -P NRestarts inspectd)" -ge 1 ] && systemctl is-active -q inspectd'
inspectd support-bundle --bench 2 --out /tmp/bundle.tar.gz | tail -n 3
systemctl start inspectd-console
eventually 20 "the control room answers" sh -c "journalctl -u inspectd-console -o cat --no-pager | grep -q 'the page is at'"

say "remove"
apt-get remove -y -qq inspectd >/dev/null 2>&1
pgrep -x inspectd >/dev/null && fail "it still runs" || true
[ -f /etc/inspectd/inspectd.toml ] && [ -d /var/lib/private/inspectd ] || fail "configuration or state is gone"
[ ! -e /usr/bin/inspectd ] || fail "the binary is there"
echo "left: $(files | comm -13 /tmp/before - | wc -l) files in $(files | comm -13 /tmp/before - | cut -d/ -f1-4 | sort -u | tr '\n' ' ')"

say "install again: it goes on"
install /packages/new.deb
systemctl start inspectd
eventually 30 "pictures are inspected" inspected 1

say "purge"
apt-get purge -y -qq inspectd >/dev/null 2>&1
systemctl daemon-reload
left=$(files | comm -13 /tmp/before - || true)
[ -z "$left" ] || fail "left behind: $left"
gone=$(files | comm -23 /tmp/before - || true)
[ -z "$gone" ] || fail "gone with it: $gone"
echo "nothing is left, nothing else is gone"
say "all well"
