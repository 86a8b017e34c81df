package timepeers

import (
	"encoding/json"
	"fmt"
	"math"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"komainu/appliance/control"
	"komainu/tools/lab"
)

const keyFile = `1 AES128 HEX:000102030405060708090a0b0c0d0e0f
2 SHA256 HEX:101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f
`

// TestHostPeers: three chronyd are our upstreams, plain, by key and by NTS; we
// serve chronyd and ntpdig in every way there is, and ask everybody by --query.
func TestHostPeers(t *testing.T) {
	s := newSite(t)
	a := newAuthority(t)
	cert, key := a.issue(t, "192.0.2.4", -time.Hour, time.Hour)
	dir := filepath.Join(s.peer.Dir, "pki")
	s.write(filepath.Join(dir, "cert.pem"), cert, 0o600)
	s.write(filepath.Join(dir, "key.pem"), key, 0o600)
	s.write(filepath.Join(dir, "ca.pem"), a.pem(), 0o644)
	s.write(filepath.Join(dir, "keys"), keyFile, 0o600)
	s.write(filepath.Join(dir, "ntpdig-keys"), "1 AES-128 000102030405060708090a0b0c0d0e0f\n", 0o600)
	const upstream = "local stratum 7\nallow\n"
	s.chronyd(s.peer, "plain", upstream+"bindaddress 192.0.2.2\nbindaddress fd00:1::2")
	s.chronyd(s.peer, "keyed", upstream+"bindaddress 192.0.2.3\nkeyfile "+dir+"/keys")
	s.chronyd(s.peer, "nts", fmt.Sprintf("%sbindaddress 192.0.2.4\nntsserverkey %s/key.pem\nntsservercert %s/cert.pem", upstream, dir, dir))
	b := s.newBox(`upstream = ["192.0.2.2", "fd00:1::2", { address = "192.0.2.3", key = 2 }, { address = "192.0.2.4", nts = true, ca = "secret:ca" }]
serve = ["lan"]
keys = "secret:keys"
nts = { certificate = "secret:nts-cert", key = "secret:nts-key" }`)
	b.certify(a, -time.Hour, 30*24*time.Hour)
	b.write(filepath.Join(b.state, "secrets", "ca"), a.pem(), 0o600)
	b.write(filepath.Join(b.state, "secrets", "keys"), keyFile, 0o600)
	b.start()

	st := b.synchronised()
	// A server that still starts is asked again after a pause.
	b.await("every source is heard", func() bool {
		st = b.status()
		return !slices.ContainsFunc(st.Sources, func(x control.TimeSource) bool {
			return x.State != "followed" && x.State != "combined" && x.State != "usable" || x.Auth == "nts" && x.NTSCookies != 8
		})
	})
	if st.Stratum != 8 || st.Leap != 0 || st.OffsetS > 0.01 || st.OffsetS < -0.01 {
		t.Errorf("we are stratum %d, leap %d, offset %v", st.Stratum, st.Leap, st.OffsetS)
	}
	for i, want := range []string{"none", "none", "key", "nts"} {
		x := st.Sources[i]
		if x.Auth != want || x.AuthOK != (want != "none") || x.State != "followed" && x.State != "combined" && x.State != "usable" || x.Stratum != 7 {
			t.Errorf("source %s: %s, authentication %s %v, stratum %d", x.Name, x.State, x.Auth, x.AuthOK, x.Stratum)
		}
	}
	if n := st.Sources[3].NTSCookies; n != 8 {
		t.Errorf("%d NTS cookies left", n)
	}

	// All at once: they only wait for each other's packets.
	clients := map[string]string{
		"v4": "server 192.0.2.1", "v6": "server fd00:1::1",
		"aes128": "server 192.0.2.1 key 1", "sha256": "server fd00:1::1 key 2",
		"ntscookies": "server 192.0.2.1 nts",
		"xleave":     "server 192.0.2.1 xleave", "xleave6": "server fd00:1::1 xleave",
	}
	running := map[string]*chrony{}
	for name, conf := range clients {
		running[name] = s.chronyd(s.peer, name, conf+fmt.Sprintf(" iburst minpoll 0 maxpoll 0\nport 0\nkeyfile %s/keys\nntstrustedcerts %s/ca.pem", dir, dir))
	}
	for name, c := range running {
		server := strings.Fields(clients[name])[1]
		c.selects(server)
		authenticated := "No"
		if name == "aes128" || name == "sha256" || name == "ntscookies" {
			authenticated = "Yes"
		}
		if got := c.field("ntpdata", "Authenticated"); got != authenticated {
			t.Errorf("%s: authenticated %s, want %s", name, got, authenticated)
		}
		if got := c.field("ntpdata", "Stratum"); got != "8" {
			t.Errorf("%s: stratum %s", name, got)
		}
		if strings.HasPrefix(name, "xleave") {
			s.await(name+" is interleaved", func() bool { return c.field("ntpdata", "Interleaved") == "Yes" })
		}
	}
	agrees(t, b, running["v4"])
	t.Run("ntpdig", func(t *testing.T) { ntpdig(t, s, dir) })
	queries(t, b, dir)

	var clientsSeen control.TimeClients
	must(t, b.ask(control.TimeClientsPath, &clientsSeen))
	if len(clientsSeen.Clients) != 2 || clientsSeen.Total != 2 { // one for each address family
		t.Errorf("clients: %+v", clientsSeen)
	}
	st = b.status()
	for _, kind := range []string{"plain", "key", "nts", "interleaved"} {
		if st.Server.Requests[kind] == 0 {
			t.Errorf("no %s requests counted: %v", kind, st.Server.Requests)
		}
	}
	if st.NTS == nil || st.NTS.KE["done"] != 2 { // chronyd's and --query's
		t.Errorf("key exchanges: %+v", st.NTS)
	}
	screens(t, b)
}

// agrees compares what we say of ourselves with what chronyd hears from us.
func agrees(t *testing.T, b *box, c *chrony) {
	t.Helper()
	var st control.TimeStatus
	var differ []string
	b.await("chronyd hears what we say of ourselves", func() bool { // its last sample may be older than what we say
		d := json.NewDecoder(strings.NewReader(b.show("en", "--json")))
		d.DisallowUnknownFields()
		must(t, d.Decode(&st))
		data := map[string]string{}
		for line := range strings.Lines(c.say("ntpdata")) {
			k, v, _ := strings.Cut(line, ":")
			data[strings.TrimSpace(k)] = strings.TrimSpace(v)
		}
		differ = nil
		near := func(field string, ours float64) { // on the wire in 15 us, rounded up
			v, err := strconv.ParseFloat(strings.Fields(data[field] + " x")[0], 64)
			if err != nil || math.Abs(v-ours) > 200e-6 {
				differ = append(differ, fmt.Sprintf("%s: we say %v, chronyd heard %q", field, ours, data[field]))
			}
		}
		near("Root dispersion", st.RootDispersionS)
		near("Root delay", st.RootDelayS)
		if data["Stratum"] != fmt.Sprint(st.Stratum) || data["Leap status"] != "Normal" || st.Leap != 0 || !sameRefID(st.RefID, data["Reference ID"]) {
			differ = append(differ, fmt.Sprintf("we say stratum %d, leap %d, reference %s, chronyd heard %v", st.Stratum, st.Leap, st.RefID, data))
		}
		return differ == nil
	})
	if st.Source == "" || st.BoundS < st.RootDelayS/2 || st.Server.Stamps != "kernel" || st.Site != "dc-edge" || !st.NoClock || st.UptimeS <= 0 ||
		st.MinSources != 2 || len(st.Sources) != 4 || len(st.Server.Listen) != 2 || st.NTS == nil || st.LeapTable.TAI < 37 || st.CorrectedAgoS < 0 {
		t.Errorf("%+v", st)
	}
}

// sameRefID compares ours in dots with chronyd's in hexadecimal digits.
func sameRefID(dots, chrony string) bool {
	var o [4]int
	if n, _ := fmt.Sscanf(dots, "%d.%d.%d.%d", &o[0], &o[1], &o[2], &o[3]); n != 4 {
		return false
	}
	return strings.HasPrefix(chrony, fmt.Sprintf("%02X%02X%02X%02X", o[0], o[1], o[2], o[3]))
}

// ntpdig asks us as ntpsec's client does.
func ntpdig(t *testing.T, s *site, dir string) {
	if _, err := exec.LookPath("ntpdig"); err != nil {
		t.Skip("needs ntpdig: apt-get install ntpsec-ntpdig")
	}
	for _, words := range [][]string{{"-4", ours[0]}, {"-6", ours[1]}, {"-4", "-a", "1", "-k", dir + "/ntpdig-keys", ours[0]}} {
		out, err := s.peer.Run(t.Context(), lab.Daemon{Argv: append([]string{"ntpdig", "-j", "-t", "2"}, words...)})
		var said struct {
			Stratum int
			Leap    string
			Offset  float64
		}
		if err != nil || json.Unmarshal(out, &said) != nil || said.Stratum != 8 || math.Abs(said.Offset) > 0.01 {
			t.Errorf("ntpdig %v: %s, %v", words, out, err)
		}
	}
}

// queries asks chronyd and us as a field engineer does.
func queries(t *testing.T, b *box, dir string) {
	t.Helper()
	for _, q := range []struct {
		host *lab.Host
		args []string
		want []string
	}{
		{b.peer, []string{ours[0]}, []string{"stratum 8", "authentication none", "4 of 4 queries answered"}},
		{b.peer, []string{ours[1]}, []string{"stratum 8", "[fd00:1::1]:123"}},
		{b.peer, []string{ours[0], "--nts", "--ca", dir + "/ca.pem"}, []string{"stratum 8", "NTS: good"}},
		{b.peer, []string{ours[0], "--key", "2", "--config", b.config, "--state", b.state}, []string{"key: good"}},
		{b.box, []string{"192.0.2.4", "--nts", "--ca", dir + "/ca.pem"}, []string{"stratum 7", "NTS: good"}},
		{b.box, []string{"192.0.2.3", "--key", "1", "--config", b.config, "--state", b.state}, []string{"stratum 7", "key: good"}},
		{b.box, []string{peer[1]}, []string{"stratum 7", "within"}},
	} {
		contains(t, fmt.Sprint("--query ", q.args), b.komainu(q.host, "en", append([]string{"timed", "--query"}, q.args...)...), q.want...)
	}
	contains(t, "--query in Japanese", b.komainu(b.peer, "ja", "timed", "--query", ours[0]), "階層 8", "4 回中 4 回応答")
}

// screens looks at what a person sees while all is well.
func screens(t *testing.T, b *box) {
	t.Helper()
	contains(t, "show ntp", b.show("en"), "clock synchronised", "follows", "stratum 8", "true time within", "listens on 192.0.2.1:123, [fd00:1::1]:123")
	contains(t, "show ntp, Japanese", b.show("ja"), "同期元", "階層 8")
	contains(t, "show ntp sources", b.show("en", "sources"), "source 192.0.2.4", "authentication NTS: good", "authentication key: good", "stratum 7 (127.127.1.1)")
	contains(t, "show ntp clients", b.show("en", "clients"), "192.0.2.2", "fd00:1::2", "2 of 2 clients", "IN")
	contains(t, "show ntp nts", b.show("en", "nts"), "192.0.2.1:4460", "key exchanges 2", "source 192.0.2.4")
	contains(t, "show ntp nts, Japanese", b.show("ja", "nts"), "鍵交換", "証明書の期限")
}
