package timepeers

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"komainu/drivers/privilege"
)

// serving is a [ntp] that needs nobody else.
const serving = `upstream = ["192.0.2.2"]
serve = ["lan"]
`

// TestHostRefusals: what the daemon doesn't start with, and what it says then.
func TestHostRefusals(t *testing.T) {
	s := newSite(t)
	b := s.newBox("")
	a := newAuthority(t)
	b.certify(a, -1e9, 3600e9)
	secret := func(name, text string, mode os.FileMode) {
		b.write(filepath.Join(b.state, "secrets", name), text, mode)
	}
	t.Run("no [ntp]", func(t *testing.T) {
		contains(t, "en", b.fails(), "this box has no time daemon: add [ntp]")
		out, err := s.try(b.host, "ja", "timed", "--config", b.config, "--no-clock")
		if err == nil {
			t.Error("it ended well")
		}
		contains(t, "ja", out, "時刻デーモンはありません")
	})
	t.Run("file of keys", func(t *testing.T) {
		b.configure(serving + `keys = "secret:keys"`)
		contains(t, "missing", b.fails(), "[ntp] keys:", "secret:keys", "put it there with mode 0600")
		secret("keys", keyFile, 0o644)
		contains(t, "mode", b.fails(), "/secrets/keys has mode 0644, others could read it: chmod 0600")
		secret("keys", "1 AES128 HEX:00010203\nhello\n3 SHA3 HEX:00\n", 0o600)
		out := b.fails()
		contains(t, "content", out, "[ntp] keys secret:keys: line 1:", "line 2: 1 words, want three: ID TYPE KEY", "line 3:")
		if strings.Contains(out, "00010203") {
			t.Errorf("a secret is told:\n%s", out)
		}
		secret("keys", keyFile, 0o600)
		b.configure(`upstream = [{ address = "192.0.2.2", key = 7 }]
serve = ["lan"]
keys = "secret:keys"`)
		contains(t, "another key", b.fails(), "[ntp] upstream 192.0.2.2: the file of keys has no key 7")
	})
	t.Run("certificate", func(t *testing.T) {
		b.configure(serving + `nts = { certificate = "secret:nts-cert", key = "secret:none" }`)
		contains(t, "missing", b.fails(), "secret:none", "put it there with mode 0600")
		secret("none", "nonsense", 0o600)
		contains(t, "content", b.fails(), "secret:none")
	})
	taken := func(t *testing.T, network, at, ntp string, wants ...string) {
		t.Helper()
		us := strconv.Itoa(os.Getpid())
		if strings.HasPrefix(network, "udp") {
			l, err := b.host.ListenPacket(t.Context(), network, at)
			must(t, err)
			defer l.Close()
		} else {
			l, err := b.host.Listen(t.Context(), network, at)
			must(t, err)
			defer l.Close()
		}
		b.configure(ntp)
		contains(t, at, b.fails(), append(wants, "the port is taken by", "(process "+us+")", "stop it or choose another port")...)
	}
	t.Run("port taken", func(t *testing.T) {
		taken(t, "udp4", ours[0]+":123", serving, "address 192.0.2.1, UDP port 123")
		taken(t, "udp6", "[::]:123", serving, "address fd00:1::1, UDP port 123")
		taken(t, "tcp", ours[0]+":4460", serving+`nts = { certificate = "secret:nts-cert", key = "secret:nts-key" }`, "address 192.0.2.1, TCP port 4460")
	})
	t.Run("twice", func(t *testing.T) {
		b.configure(serving)
		b.start()
		contains(t, "the second", b.fails(), strconv.Itoa(b.pid()), "timed.sock")
		b.stop()
	})
	t.Run("privileges", func(t *testing.T) {
		// Another user has none of root's. The port may be anybody's then.
		must(t, exec.Command("chown", "-R", "nobody", b.host.Dir).Run())
		b.configure(serving + "port = 1123")
		must(t, os.Chown(b.config, 65534, 65534))
		b.user, b.args = "nobody", nil
		contains(t, "adjusting", b.fails(), "CAP_SYS_TIME", "run with --no-clock to serve the time without adjusting it")
		b.args = []string{"--no-clock"}
		b.start()
		b.stop()
	})
}

// TestHostNoClock: with --no-clock the daemon keeps no right to adjust the
// clock, so it can't.
func TestHostNoClock(t *testing.T) {
	s := newSite(t)
	b := s.newBox(serving)
	b.start()
	held, err := privilege.Of(strconv.Itoa(b.pid()))
	must(t, err)
	if all := held.Effective | held.Permitted | held.Ambient; all&^privilege.BindService != 0 {
		t.Errorf("it holds %v", all)
	}
	contains(t, "show ntp", b.show("en"), "it only observes and doesn't adjust the clock")
	out, err := s.try(b.host, "en", "--run", b.run, "ntp", "step", "--reason", "test")
	if err == nil {
		t.Error("it stepped")
	}
	contains(t, "ntp step", out, "the time daemon only observes (--no-clock)")
}

// TestHostBadState: files of nonsense, and a folder that can't be written, cost
// what they held and no more.
func TestHostBadState(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a := newAuthority(t)
	b := s.newBox(serving + `nts = { certificate = "secret:nts-cert", key = "secret:nts-key" }`)
	b.certify(a, -1e9, 3600e9)
	ca := filepath.Join(s.peer.Dir, "ca.pem")
	s.write(ca, a.pem(), 0o644)
	for name, text := range map[string]string{
		"nonsense": "\x00\xff nonsense", "empty": "", "half": `{"version":1,"data":{"frequency_ppm":-1`,
		"of tomorrow": `{"version":99,"data":{}}`,
		"implausible": `{"version":1,"data":{"frequency_ppm":1e9,"error_ppm":-3,"at_ns":1}}`,
	} {
		drift, cookies := filepath.Join(b.state, "time", "drift.json"), filepath.Join(b.state, "time", "cookie-keys.json")
		b.write(drift, text, 0o600)
		b.write(cookies, text, 0o600)
		b.start()
		b.await(name, func() bool { return strings.Contains(b.log(), "the drift file is of no use and was ignored") })
		contains(t, name, b.log(), "the NTS cookie keys can't be used; clients exchange keys again")
		if ppm := b.status().FrequencyPPM; ppm > 500 || ppm < -500 {
			t.Errorf("%s: the clock's frequency is %v", name, ppm)
		}
		b.stop()
		must(t, os.Remove(filepath.Join(b.host.LogDir(), b.name+".log")))
	}
	// Mounted in the daemon's own view, so that nothing is left to unmount.
	for name, script := range map[string]string{
		"read-only": `mount --bind "$1" "$1" && mount -o remount,bind,ro "$1"`,
		"full":      `mount -t tmpfs -o size=4k none "$1" && { head -c 9000 /dev/zero >"$1/filled" || true; }`,
	} {
		must(t, os.RemoveAll(filepath.Join(b.state, "time")))
		must(t, os.Mkdir(filepath.Join(b.state, "time"), 0o700))
		b.wrap = []string{"unshare", "--mount", "--propagation", "private", "sh", "-c", "set -e; " + script + `; shift; exec "$@"`, "sh", filepath.Join(b.state, "time")}
		b.start()
		contains(t, name, s.komainu(s.peer, "en", "timed", "--query", ours[0], "--nts", "--ca", ca), "NTS: good")
		b.await(name, func() bool { return strings.Contains(b.log(), "cookie keys") })
		contains(t, name, b.log(), map[string]string{"read-only": "read-only file system", "full": "no space left on device"}[name])
		b.stop()
		must(t, os.Remove(filepath.Join(b.host.LogDir(), b.name+".log")))
	}
}
