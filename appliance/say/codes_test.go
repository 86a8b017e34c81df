package say_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"komainu/appliance/say"
)

// Where codes are made, and which literals there are none although they look
// like one.
var (
	sources = []string{"appliance", "appliance/agent", "appliance/candidate", "appliance/config", "appliance/console", "appliance/control", "appliance/pid1", "appliance/pid1/vigil", "appliance/pid1/boot", "appliance/pki", "appliance/serial", "appliance/shell", "appliance/ssh", "appliance/techinfo", "appliance/update", "images/trial",
		"failover/detect", "failover/machine", "failover/standby", "netstack/steer", "drivers/files", "drivers/postgres", "drivers/probe"}
	// Of time, whose cores hold many words with hyphens, only these are codes.
	timing    = []string{"appliance/timed", "drivers/clock", "drivers/ntpio", "ntp/discipline", "ntp/leap", "ntp/nts", "ntp/selection", "ntp/source", "ntp/timer", "drivers/ntpquery"}
	timeCode  = regexp.MustCompile(`^(note-time|ntp|time)-[a-z-]+$`)
	looksLike = regexp.MustCompile(`^([a-z]+(-[a-z]+)+|verdict\.[a-z-]+)$`)
	noCode    = []string{
		"accept-orphans", "switch-dc", "switch-local", // orders: work- is put before
		"admin-down", "own-box", "own-lan", "dc-edge", "dc-service", "town-hall", "dc-db", // states, places, sides, roles: likewise
		"start-standby", "start-primary", "stop-fast", "stop-immediate", "open-writes", // operations: server- is put before
		"komainu-park",                 // a device
		"verify-ca",                    // libpq's
		"no-clock",                     // a flag
		"image-job",                    // a unit
		"to-disk",                      // an action
		"active-backup",                // a mode of bonds
		"commit-confirm",               // a command
		"office-address",               // a question: setup-ask- is put before
		"power-button", "ctrl-alt-del", // who ordered, where it is no person
		"reset-admin",            // typed in place of a name
		"exit-status", "pty-req", // SSH's
	}
	joined = regexp.MustCompile(`^[a-z]+-$`)
)

// tree is the sources of a few packages, without tests.
type tree map[string][]*ast.File // by folder

func read(t *testing.T) tree {
	t.Helper()
	all := tree{}
	for _, dir := range slices.Concat(sources, timing) {
		names, err := filepath.Glob("../../" + dir + "/*.go")
		if err != nil || len(names) == 0 && slices.Contains(sources, dir) {
			t.Fatalf("%s: no sources (%v)", dir, err)
		}
		for _, name := range names {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			all[dir] = append(all[dir], f)
		}
	}
	return all
}

// walk visits every node of a folder.
func (all tree) walk(dir string, visit func(ast.Node)) {
	for _, f := range all[dir] {
		for _, d := range f.Decls {
			if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.IMPORT {
				continue
			}
			ast.Inspect(d, func(n ast.Node) bool { visit(n); return true })
		}
	}
}

func text(e ast.Node) string {
	l, ok := e.(*ast.BasicLit)
	if !ok || l.Kind != token.STRING {
		return ""
	}
	s, _ := strconv.Unquote(l.Value)
	return s
}

// list is the strings of a table such as phaseNames.
func (all tree) list(t *testing.T, dir, name string) (found []string) {
	t.Helper()
	all.walk(dir, func(n ast.Node) {
		v, ok := n.(*ast.ValueSpec)
		if !ok || v.Names[0].Name != name || len(v.Values) == 0 {
			return
		}
		ast.Inspect(v.Values[0], func(n ast.Node) bool {
			if s := text(n); s != "" {
				found = append(found, s)
			}
			return true
		})
	})
	if found == nil {
		t.Fatalf("%s has no table %s", dir, name)
	}
	return found
}

// constants are the string constants of a type.
func (all tree) constants(t *testing.T, dir, typ string) (found []string) {
	t.Helper()
	all.walk(dir, func(n ast.Node) {
		if v, ok := n.(*ast.ValueSpec); ok && len(v.Values) == 1 {
			if id, ok := v.Type.(*ast.Ident); ok && id.Name == typ {
				found = append(found, text(v.Values[0]))
			}
		}
	})
	if found == nil {
		t.Fatalf("%s has no constant of type %s", dir, typ)
	}
	return found
}

// rowCodes are the reasons in the tables of failover/machine: the second field
// of every row.
func (all tree) rowCodes() (found []string) {
	all.walk("failover/machine", func(n ast.Node) {
		c, ok := n.(*ast.CompositeLit)
		if !ok {
			return
		}
		a, ok := c.Type.(*ast.ArrayType)
		if !ok {
			return
		}
		if id, ok := a.Elt.(*ast.Ident); !ok || id.Name != "row" && id.Name != "dcRow" {
			return
		}
		for _, e := range c.Elts {
			if r, ok := e.(*ast.CompositeLit); ok && len(r.Elts) > 1 {
				found = append(found, text(r.Elts[1]))
			}
		}
	})
	return found
}

// TestEveryCode demands a row for every code that can reach a person.
func TestEveryCode(t *testing.T) {
	all := read(t)
	codes := map[string]string{} // code → where
	add := func(where string, of ...string) {
		for _, c := range of {
			codes[c] = where
		}
	}
	phases, dcPhases := all.list(t, "failover/machine", "phaseNames"), all.list(t, "failover/machine", "dcPhaseNames")
	kinds, ops := all.constants(t, "failover/machine", "OrderKind"), all.list(t, "appliance/agent", "serverOpNames")
	if rows := all.rowCodes(); len(rows) < 30 {
		t.Fatalf("only %d rows were found in the tables: has their form changed?", len(rows))
	} else {
		add("failover/machine, row", rows...)
	}
	add("failover/machine, phase shown as a step", phases...)
	add("failover/machine, phase shown as a step", dcPhases...)

	// Codes that are put together: every beginning has its endings here.
	endings := map[string][]string{
		"alarm-":    {"raised", "cleared"},
		"auth-":     {"none", "key", "nts"},
		"box-":      all.constants(t, "appliance/agent", "Role"),
		"clock-":    {"starting", "synchronised", "holdover", "orphan", "unsynchronised", "panic"}, // control.TimeStatus.State
		"data-":     {"ok", "made", "repaired", "none"},                                            // control.Box.Data
		"dc-":       dcPhases,
		"done-":     append([]string{"local", "dc"}, kinds...),
		"hold-":     {"true", "false"},
		"image-":    {"accepted", "trial", "failed", "rescue"}, // control.Image.State
		"leap-":     {"0", "1", "2", "3"},                      // RFC 5905
		"loss-":     {"none", "unknown"},
		"mode-":     all.list(t, "failover/machine", "modeNames"),
		"order-":    {"fence-refused", "rejoin-refused", "accept-orphans-refused", "promote-refused"},
		"ordered-":  kinds,
		"owner-":    all.list(t, "failover/detect", "sideNames"),
		"path-":     all.list(t, "failover/detect", "sessionNames"),
		"phase-":    phases,
		"place-":    all.list(t, "failover/detect", "placeNames"),
		"reset-":    {"order", "power", "watchdog", "panic", "trial", "first"}, // control.Reset.Kind
		"role-":     append(all.list(t, "failover/standby", "roleNames"), all.list(t, "appliance/control", "roleNames")...),
		"server-":   {},
		"severity-": all.constants(t, "appliance/agent", "Severity"),
		"source-":   {"followed", "combined", "usable", "falseticker", "distant", "unusable", "silent", "unresolved"}, // control.TimeSource.State
		"state-":    all.list(t, "failover/detect", "sessionNames"),
		"target-":   all.list(t, "netstack/steer", "targetNames"),
		"work-":     {"write", "switch-dc", "switch-local", "hold", "release", "accept-orphans", "open", "saving", "starting"},
		"query-":    {"auth-good", "auth-bad"},
		// Names of files, copies and tags, said to nobody.
		"changes-":     {},
		"orphans-":     {},
		"capture-end-": {"bytes", "packets", "stopped", "time"},
		"ping-":        {"forbidden", "hops", "long-here", "no-host", "no-route", "not-sent", "reply", "silent", "too-big", "unreachable"}, // icmp.Kind
		"check-data-":  {"made", "none", "ok", "repaired"},
		"check-path-":  {"admin-down", "down", "init", "up"},
		"setup-ask-":   {"address", "bond", "language", "line", "office", "office-address", "peer", "role", "site", "ssh", "time"},
		"postgres-":    {},
		"revision-":    {"failed", "taken-back", "broken-off"}, // control.Revision.Outcome
		"serial-":      {},
		"term-":        {},
	}
	for _, op := range ops {
		endings["server-"] = append(endings["server-"], op, op+"-failed")
	}
	for prefix, ends := range endings {
		for _, e := range ends {
			add("put together", prefix+e)
		}
	}

	for dir := range all {
		all.walk(dir, func(n ast.Node) {
			switch n := n.(type) {
			case *ast.BasicLit:
				s := text(n)
				switch {
				case !looksLike.MatchString(s) || slices.Contains(noCode, s):
				case (dir == "appliance/config" || dir == "appliance/candidate") && !say.Known(s): // a key
				case slices.Contains(timing, dir) && !timeCode.MatchString(s):
				default:
					add(dir, s)
				}
			case *ast.BinaryExpr:
				if s := text(n.X); n.Op == token.ADD && joined.MatchString(s) && endings[s] == nil {
					t.Errorf("%s puts a code together from %q: add its endings to this test", dir, s)
				}
			case *ast.ReturnStmt:
				if dir == "drivers/probe" && len(n.Results) == 1 {
					if s := text(n.Results[0]); s != "" && !strings.ContainsAny(s, " /") {
						add(dir, s)
					}
				}
			}
		})
	}
	for _, code := range slices.Sorted(maps.Keys(codes)) {
		if !say.Known(code) {
			t.Errorf("%s (%s) has no words: add a row to a file of this folder", code, codes[code])
		}
	}
	// Words that nobody says any more mislead the next reader.
	for _, code := range say.Codes() {
		if codes[code] == "" && strings.Contains(code, "-") && !strings.HasPrefix(code, "config-") {
			t.Errorf("%s is said by nobody: remove its row", code)
		}
	}
}

// TestArguments says codes as their emitters do: every argument has a place, or
// is left out on purpose, and no place stays empty.
func TestArguments(t *testing.T) {
	for _, c := range [][]string{
		{"advice-accept-orphans", "12"}, {"advice-accept-orphans", "12", "resident"}, {"advice-accept-there", "12"},
		{"advice-hold-down", "resident"}, {"advice-open", "hinata-cho/resident"}, {"advice-release", "resident"},
		{"advice-switch-dc", "resident"}, {"advice-switch-local", "resident"}, {"advice-write", "resident"},
		{"alarm-cleared", "dc-unusable", "warning"}, {"alarm-raised", "dc-fenced", "critical"}, {"alarm-raised", "standby-lag", "warning"},
		{"block-dc-silent", "resident"}, {"block-fenced", "2"}, {"block-hold-down", "90"}, {"block-not-fenced", "resident"},
		{"block-orphans", "12"}, {"block-rejoining", "copying", "40"}, {"block-rejoining", "keeping"},
		{"block-standby-not-ready", "resident", "standby-stopped"},
		{"database-made", "resident", "/data"}, {"dc-awaiting", "listed", "12"}, {"dc-fenced", "higher-term", "-1"}, {"dc-fenced"},
		{"dc-closed", "booted-fenced", "-1"}, {"dc-serving", "open", "-1"}, {"done-write", "hinata-cho/resident"}, {"done-fence", "resident"},
		{"dual-write-window", "217ms", "13ms"}, {"fenced", "12.7ms"}, {"fenced"}, {"gate-failed", "gate-failed"}, {"hold-true"},
		{"advice-time-majority", "10.1.0.5"}, {"advice-time-silent", "10.1.0.5"}, {"clock-holdover", "3 h", "4.1 ms", "50 ms", "19:40"}, {"clock-holdover", "3 h", "4.1 ms", "50 ms", ""},
		{"leap-at", "leap-inserted", "2027-01-01"}, {"leap-list", "37", "2026-12-28"}, {"note-time-doubt", "1.2s"}, {"note-time-drift-ignored"}, {"note-time-cookies-lost", "no keys"}, {"note-time-leap-file", "line 3"},
		{"note-time-leap", "1s"}, {"note-time-ordered", "sato", "drill"}, {"note-time-panic", "61s", "10s"}, {"note-time-refused", "slew", "operation not permitted"}, {"note-time-selected", "a.example", "10.1.0.5:123"},
		{"note-time-set-by-hand", "-3s"}, {"note-time-slept", "4s"}, {"note-time-stepped", "3s"}, {"ntp-kiss", "RATE"}, {"ntp-nts", "x509: expired"}, {"ntp-unresolved", ""},
		{"query-auth-good", "auth-nts"}, {"time-why-few", "1", "2"}, {"time-why-no-majority", "a", "b"}, {"time-why-panic", "-61.250"}, {"time-why-unusable", "a", "ntp-kiss", "DENY"},
		{"locked-endpoint", "resident-db", "192.168.50.10:5432"}, {"order-fence-refused", "refused-in-phase"}, {"order-no-address", "no address"},
		{"order-unanswered", "timeout"}, {"own-stall", "1.2s"}, {"path-carries", "alt", "main"}, {"path-carries-class", "bulk", "alt", "main"}, {"path-mtu-found", "990", "14", "1.2s"},
		{"phase-at-dc", "dc-open", "main"}, {"phase-fencing", "ordered-write", "sato", "fire"}, {"phase-local-read", "verdict.no-answer", "main", "alt"},
		{"phase-local-read", "standby-not-ready", "main"}, {"phase-local-write", "hand-over-given-up"},
		{"refused-busy", "saving", ""}, {"refused-busy", "write", "sato"}, {"refused-dc-unreachable"}, {"refused-dc-unusable", "verdict.boot"},
		{"refused-in-phase", "returning", "parking"}, {"refused-no-database", "hinata-cho/resident"}, {"refused-no-reason"}, {"refused-no-reason", "0", "3"},
		{"refused-no-such-group", "tax"}, {"refused-not-caught-up", "4", "3"}, {"refused-not-ours", "0", "3"}, {"refused-orphan-count", "3", "12"},
		{"refused-stale-term", "1", "3"}, {"refused-standby-not-ready", "resident", "postgres-disk-full"}, {"refused-write-never", "hinata-cho/resident"},
		{"relay-failed", "dc-db"}, {"retire-failed", "retire-failed"}, {"retired", "4", "3", "859us"}, {"rewind-impossible", "no WAL"}, {"rewind-impossible"},
		{"server-copy-failed", "disk-full", "no space"}, {"server-drain", "3", "1"}, {"server-start-primary-failed", "stale-term", "term 2"},
		{"service-not-proved", "refused"}, {"service-proved", "local-read"}, {"standby-copying", "40"}, {"state-not-saved", "state-not-saved"}, {"state-not-saved"},
		{"steer-failed", "steer-failed"}, {"verdict.db-host-silent", "resident"}, {"verdict.line-lost", "main"}, {"verdict.never-heard", "main", "alt"},
		{"verdict.primary-down", "resident", "hung"}, {"verdict.primary-fenced", "resident"}, {"verdict.probe-failed", "resident-db"}, {"verdict.probes-pending", "resident-db"},
	} {
		for _, lang := range say.Languages() {
			got := say.Text(lang, c[0], c[1:]...)
			if strings.ContainsAny(got, "?{}<>") || strings.HasSuffix(got, ")") && lang == "ja" {
				t.Errorf("%s %q: %s", lang, c, got)
			}
		}
	}
}
