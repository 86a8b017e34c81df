package imports

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// root is the repository, seen from this package's folder.
const root = "../../"

func TestImportRule(t *testing.T) {
	cmd := exec.Command("go", "list", "-e", "-json=ImportPath,Imports", "./...")
	cmd.Dir = root
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var packages []Package
	for in := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p Package
		if err := in.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
	if len(packages) < 5 {
		t.Fatalf("go list found %d packages", len(packages))
	}
	for _, v := range Violations(packages) {
		t.Error(v)
	}
}

// The table bites: each of these imports is refused, or is not.
func TestRules(t *testing.T) {
	for _, c := range []struct {
		from, to string
		bad      bool
	}{
		{"komainu/ntp/instant", "time", false},
		{"komainu/ntp/instant", "komainu/ntp/packet", true},
		{"komainu/failover/machine", "komainu/failover/standby", false},
		{"komainu/failover/machine", "komainu/ntp/instant", false},
		{"komainu/failover/machine", "komainu/ntp/packet", true},
		{"komainu/failover/machine", "komainu/netstack/steer", true},
		{"komainu/netstack/plan", "komainu/failover/machine", true},
		{"komainu/ntp/timer", "komainu/netstack/spec", true},
		{"komainu/netstack/plan", "net/netip", false},
		{"komainu/netstack/plan", "net", true},
		{"komainu/netstack/plan", "os", true},
		{"komainu/netstack/plan", "os/exec", true},
		{"komainu/netstack/plan", "math/rand/v2", true},
		{"komainu/netstack/plan", "log/slog", true},
		{"komainu/netstack/plan", "komainu/drivers/nft", true},
		{"komainu/netstack/plan", "komainu/appliance/agent", true},
		{"komainu/drivers/nft", "komainu/netstack/steer", false},
		{"komainu/drivers/nft", "komainu/drivers/netns", false},
		{"komainu/drivers/nft", "komainu/appliance/say", true},
		{"komainu/drivers/nft", "net", false},
		{"komainu/appliance/agent", "komainu/failover/machine", false},
		{"komainu/appliance/agent", "komainu/drivers/nft", true},
		{"komainu/appliance/agent", "komainu/appliance/shell", true},
		{"komainu/appliance/agent/line", "komainu/appliance/agent", false},
		{"komainu/appliance/shell", "komainu/appliance/agent", false},
		{"komainu/appliance/shell", "komainu/drivers/nft", false},
		{"komainu/appliance/pid1", "komainu/drivers/units", false},
		{"komainu/appliance/pid1", "komainu/appliance/agent", true},
		{"komainu/appliance/health", "komainu/appliance/shell", true},
		{"komainu/appliance", "komainu/appliance/shell", false},
		{"komainu/appliance/console", "komainu/appliance", true},
		{"komainu/appliance/shell", "komainu/tools/lab", true},
		{"komainu/tools/sim", "komainu/appliance/agent", false},
		{"komainu/tools/sim", "komainu/drivers/nft", true},
		{"komainu/tools/lab", "komainu/drivers/netns", false},
	} {
		got := Violations([]Package{{c.from, []string{c.to}}})
		if (len(got) > 0) != c.bad {
			t.Errorf("%s imports %s: %q", c.from, c.to, got)
		}
	}
	both := Package{"komainu/appliance/health", []string{"komainu/appliance/agent", "komainu/drivers/files"}}
	if len(Violations([]Package{both})) != 1 {
		t.Error("agent and drivers met outside the shell unnoticed")
	}
}
