// Package imports holds the tests that guard the shape of the tree: who may
// import whom, paths that the documents name, catalogue IDs, machine paths.
// Start reading at rules.
package imports

import (
	"fmt"
	"slices"
	"strings"
)

// Package is one package of the module, with its imports without those of its tests.
type Package struct {
	ImportPath string
	Imports    []string
}

// module is the path before every package of ours.
const module = "komainu/"

// rule forbids imports. A pattern ending in "/" means everything below that
// folder, "/..." the folder too; any other names one package.
type rule struct {
	from   []string // packages that are bound by it
	except []string // but not these
	deny   []string // imports that it forbids
	allow  []string // unless they are these
	reason string
}

var domains = []string{"netstack/", "ntp/", "failover/"}

// rules are the table: instant ← cores ← {agent, drivers} ← shell ← main.
var rules = []rule{
	{
		from: []string{"ntp/instant"}, deny: []string{"./"},
		reason: "instant is the leaf that every core shares: it imports nothing of ours",
	},
	{
		from: domains, deny: []string{"./"}, allow: append([]string{"ntp/instant"}, domains...),
		reason: "a core decides from values: drivers, the appliance and tools are above it",
	},
	{
		from: []string{"netstack/"}, deny: []string{"ntp/", "failover/"}, allow: []string{"ntp/instant"},
		reason: "cores of two domains never import each other: the agent composes them",
	},
	{
		from: []string{"ntp/"}, deny: []string{"netstack/", "failover/"},
		reason: "cores of two domains never import each other: timed composes what it needs",
	},
	{
		from: []string{"failover/"}, deny: []string{"ntp/", "netstack/"}, allow: []string{"ntp/instant"},
		reason: "cores of two domains never import each other: the agent composes them",
	},
	{
		from:   domains,
		deny:   []string{"log/...", "math/rand/...", "net/...", "os/...", "sync/...", "syscall/...", "golang.org/x/sys/..."},
		allow:  []string{"net/netip"},
		reason: "a core is pure: time and randomness come in as values, effects leave as actions, and it runs in the simulator",
	},
	{
		from: []string{"drivers/"}, deny: []string{"appliance/...", "tools/"}, allow: []string{"drivers/"},
		reason: "a driver translates between the kernel or a daemon and a core's values; policy is above it",
	},
	{
		from: []string{"images/"}, deny: []string{"appliance/...", "tools/"},
		reason: "what the image holds and how it is updated knows nothing of who runs on it",
	},
	{
		from:   []string{"images/layout", "images/trial"},
		deny:   []string{"drivers/", "log/...", "math/rand/...", "net/...", "os/...", "sync/...", "syscall/...", "golang.org/x/sys/..."},
		reason: "whether a new image stays is decided from values, and tested without a machine",
	},
	{
		from: []string{"appliance/agent/..."}, deny: []string{"./"}, allow: append([]string{"ntp/instant", "appliance/agent/..."}, domains...),
		reason: "the agent imports cores only: it runs the same in the simulator, and meets drivers in the shell",
	},
	{
		from: []string{"appliance/pid1/...", "appliance/timed/..."}, deny: []string{"appliance/agent/...", "appliance/shell/..."},
		reason: "PID 1 and the time daemon live on when the agent dies, and know nothing of it",
	},
	{
		from: []string{"./"}, except: []string{"appliance", "appliance/shell/..."}, deny: []string{"appliance/shell/..."},
		reason: "the shell is below main only; a test of the whole appliance starts the binary",
	},
	{
		from: []string{"./"}, deny: []string{"appliance"},
		reason: "package main wires and is imported by nobody",
	},
	{
		from: []string{"./"}, except: []string{"tools/"}, deny: []string{"tools/"},
		reason: "tools look at the product, never the other way round",
	},
	{
		from: []string{"tools/clocksim/...", "tools/sim/..."}, deny: []string{"drivers/"},
		reason: "a simulator drives decisions in a fake world: what needs a driver there is a decision in the wrong place",
	},
}

// Violations checks packages against the rules.
func Violations(packages []Package) []string {
	var found []string
	for _, p := range packages {
		from, ok := strings.CutPrefix(p.ImportPath, module)
		if !ok {
			continue
		}
		for _, imported := range p.Imports {
			to, ours := strings.CutPrefix(imported, module)
			for _, r := range rules {
				if matches(r.from, from, true) && !matches(r.except, from, true) &&
					matches(r.deny, to, ours) && !matches(r.allow, to, ours) {
					found = append(found, fmt.Sprintf("%s imports %s: %s", from, to, r.reason))
				}
			}
		}
		if from != "appliance" && !matches([]string{"appliance/shell/...", "tools/"}, from, true) {
			if agent, driver := first(p, "appliance/agent/..."), first(p, "drivers/"); agent != "" && driver != "" {
				found = append(found, fmt.Sprintf("%s imports %s and %s: agent and drivers meet in the shell only", from, agent, driver))
			}
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// first is the first import of ours that a pattern matches, or nothing.
func first(p Package, pattern string) string {
	for _, imported := range p.Imports {
		if to, ours := strings.CutPrefix(imported, module); ours && matches([]string{pattern}, to, true) {
			return to
		}
	}
	return ""
}

// matches says whether one of the patterns covers a package; "./" is all of ours.
func matches(patterns []string, path string, ours bool) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		switch folder, deep := strings.CutSuffix(pattern, "/..."); {
		case pattern == "./":
			return ours
		case foreign(pattern) == ours:
			return false
		case deep:
			return path == folder || strings.HasPrefix(path, folder+"/")
		case strings.HasSuffix(pattern, "/"):
			return strings.HasPrefix(path, pattern)
		default:
			return path == pattern
		}
	})
}

// foreign says that a pattern names packages that are not ours.
func foreign(pattern string) bool {
	top, _, _ := strings.Cut(pattern, "/")
	return !slices.Contains([]string{"appliance", "drivers", "failover", "images", "netstack", "ntp", "tools"}, top)
}
