package nft_test

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"

	"komainu/drivers/netns/netnstest"
	"komainu/netstack/firewall"
	"komainu/netstack/firewall/firewalltest"
)

// What people read is what the kernel gets: nft makes the same table of the
// text as the driver of the values.
func TestHostFilterIsWhatItsTextSays(t *testing.T) {
	w := wall(t)
	digest := regexp.MustCompile(`( comment ")([^"]*?) ?#[0-9a-f]{12}"`)
	shown := func(ns string) string {
		text := netnstest.Run(t, ns, "nft", "-s", "list", "table", "inet", firewall.Table)
		return regexp.MustCompile(` comment ""`).ReplaceAllString(digest.ReplaceAllString(text, `$1$2"`), "")
	}
	rules := map[string]firewall.Ruleset{"everything": everything()}
	for name, p := range firewalltest.Policies() {
		rules[name] = firewall.Rules(p)
	}
	for name, r := range rules {
		w.apply(t, r)
		file := filepath.Join(t.TempDir(), "table.nft")
		if err := os.WriteFile(file, []byte(r.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		netnstest.Run(t, w.DC, "nft", "-f", file)
		if d := cmp.Diff(shown(w.DC), shown(w.Box)); d != "" {
			t.Errorf("%s (-nft +driver):\n%s", name, d)
		}
		w.apply(t, firewall.Ruleset{}) // chains that stay would stay where they are
		netnstest.Run(t, w.DC, "nft", "delete", "table", "inet", firewall.Table)
	}
}
