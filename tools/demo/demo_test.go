package main

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"komainu/tools/ledger"
	"komainu/tools/town"
)

// TestFieldsAreThoseThatOthersRead holds the names in demo.json.
func TestFieldsAreThoseThatOthersRead(t *testing.T) {
	b, err := json.Marshal(figures{})
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	want := strings.Fields(`cut_to_read_ms switch_ms order_to_write_ms return_pause_read_ms return_pause_write_ms return_failed_connects
		return_sessions_ended return_transactions_aborted dual_write_window_ms read_age_ms idle_blocked idle_reset idle_reset_max_ms
		rows_acknowledged rows_present rows_orphaned rows_in_doubt rows_lost`)
	slices.Sort(want)
	if keys := slices.Sorted(maps.Keys(got)); !slices.Equal(keys, want) {
		t.Errorf("demo.json has %v, want %v", keys, want)
	}
}

// TestWordsAgree holds both languages to the same figures.
func TestWordsAgree(t *testing.T) {
	for word, w := range words() {
		if w[0] == "" || w[1] == "" || strings.Count(w[0], "%") != strings.Count(w[1], "%") {
			t.Errorf("%s: %q and %q", word, w[0], w[1])
		}
	}
	for _, e := range entries(figures{}, bounds(false)) {
		for _, word := range []string{e.what, e.trial} {
			if _, ok := words()[word]; !ok {
				t.Errorf("the table says %s, which has no words", word)
			}
		}
	}
}

// TestMissedGoals tells a figure within its bound from one beyond it.
func TestMissedGoals(t *testing.T) {
	missed := func(f figures, fast bool) (out []string) {
		for _, e := range entries(f, bounds(fast)) {
			if e.missed {
				out = append(out, e.what)
			}
		}
		return out
	}
	good := figures{CutToRead: 500, Switch: 20, OrderToWrite: 120, IdleBlocked: idleClients, IdleReset: idleClients, IdleResetMax: 90}
	if got := missed(good, false); got != nil {
		t.Errorf("within the default bounds, yet missed: %v", got)
	}
	if got := missed(good, true); !slices.Equal(got, []string{"figure-cut-read"}) {
		t.Errorf("missed with the fast profile: %v", got)
	}
	bad := good
	bad.IdleReset, bad.RowsLost = idleClients-1, 1
	if got := missed(bad, false); !slices.Equal(got, []string{"figure-idle", "figure-lost"}) {
		t.Errorf("missed: %v", got)
	}
}

// TestPictureIsXML draws a short story in both languages.
func TestPictureIsXML(t *testing.T) {
	zero := time.Unix(1_000_000, 0)
	w := &town.World{Recorder: &ledger.Recorder{}, Events: &town.Events{}}
	w.Recorder.Add(ledger.Op{Kind: ledger.Search, OK: true, Server: "10.1.4.20", Start: zero, End: zero.Add(time.Second)})
	p := &play{World: w, began: zero, cut: zero.Add(2 * time.Second), healed: zero.Add(4 * time.Second)}
	p.marks = []mark{{p.cut, "mark-cut"}, {p.healed, "mark-heal"}, {zero.Add(6 * time.Second), "mark-end"}}
	for _, lang := range []string{"en", "ja"} {
		d := xml.NewDecoder(strings.NewReader(p.picture(lang)))
		for {
			_, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", lang, err)
			}
		}
	}
}

// TestLanguage follows the environment, the program's own variable first.
func TestLanguage(t *testing.T) {
	for _, c := range []struct {
		env  map[string]string
		want string
	}{
		{nil, "en"},
		{map[string]string{"LANG": "ja_JP.UTF-8"}, "ja"},
		{map[string]string{"LANG": "ja_JP.UTF-8", "KOMAINU_LANG": "en"}, "en"},
		{map[string]string{"LANG": "C", "KOMAINU_LANG": "ja"}, "ja"},
	} {
		if got := language(func(k string) string { return c.env[k] }); got != c.want {
			t.Errorf("%v: %s, want %s", c.env, got, c.want)
		}
	}
}
