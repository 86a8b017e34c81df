package leap

import (
	"crypto/sha1"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"komainu/ntp/wall"
)

// iers is the list of bulletin C 70 without its remarks; the checksum is IERS's.
const iers = `#	leap seconds
#$	3960835200
#@	3991593600
2272060800      10      # 1 Jan 1972
2287785600      11      # 1 Jul 1972
2303683200      12      # 1 Jan 1973
2335219200      13      # 1 Jan 1974
2366755200      14      # 1 Jan 1975
2398291200      15      # 1 Jan 1976
2429913600      16      # 1 Jan 1977
2461449600      17      # 1 Jan 1978
2492985600      18      # 1 Jan 1979
2524521600      19      # 1 Jan 1980
2571782400      20      # 1 Jul 1981
2603318400      21      # 1 Jul 1982
2634854400      22      # 1 Jul 1983
2698012800      23      # 1 Jul 1985
2776982400      24      # 1 Jan 1988
2840140800      25      # 1 Jan 1990
2871676800      26      # 1 Jan 1991
2918937600      27      # 1 Jul 1992
2950473600      28      # 1 Jul 1993
2982009600      29      # 1 Jul 1994
3029443200      30      # 1 Jan 1996
3076704000      31      # 1 Jul 1997
3124137600      32      # 1 Jan 1999
3345062400      33      # 1 Jan 2006
3439756800      34      # 1 Jan 2009
3550089600      35      # 1 Jul 2012
3644697600      36      # 1 Jul 2015
3692217600      37      # 1 Jan 2017
#h	49db2447 571e5e1b 2f002a53 9c8da8e4 39b8e49e
`

// list makes a list with a fitting checksum of the given lines.
func list(updated, expires string, lines ...string) string {
	h := sha1.New()
	fmt.Fprint(h, updated, expires)
	for _, l := range lines {
		fmt.Fprint(h, strings.Join(strings.Fields(l), ""))
	}
	s := h.Sum(nil)
	// Without leading zeros, as NIST writes them.
	sum := make([]string, 5)
	for i := range sum {
		sum[i] = strings.TrimLeft(fmt.Sprintf("%x", s[4*i:4*i+4]), "0")
	}
	return fmt.Sprintf("#$ %s\n#@\t%s\r\n%s\n#h %s\n", updated, expires, strings.Join(lines, "\n"), strings.Join(sum, " "))
}

func at(s string) wall.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		panic(err)
	}
	return wall.Time(t.UnixNano())
}

func TestBuiltinIsTheList(t *testing.T) {
	got, err := Parse([]byte(iers))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(Builtin(), got); d != "" {
		t.Fatalf("built-in table against the list:\n%s", d)
	}
	if got.Expires != at("2026-06-28T00:00:00Z") {
		t.Errorf("expires %v", time.Unix(0, int64(got.Expires)).UTC())
	}
}

func TestAt(t *testing.T) {
	table := Builtin()
	for s, want := range map[string]int{
		"1971-12-31T23:59:59Z": 0, "1972-01-01T00:00:00Z": 10,
		"2016-12-31T23:59:59.999999999Z": 36, "2017-01-01T00:00:00Z": 37, "2030-01-01T00:00:00Z": 37,
	} {
		if got := table.At(at(s)); got != want {
			t.Errorf("%s: %d, want %d", s, got, want)
		}
	}
	if tai := (&Table{}).At(at("2020-01-01T00:00:00Z")); tai != 0 {
		t.Errorf("empty table says %d", tai)
	}
}

func TestNext(t *testing.T) {
	table, err := Parse([]byte(list("3900000000", "4100000000", "3644697600 36", "3692217600 37", "3976214400 36")))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		now, at string
		seconds int
	}{
		{"2016-12-31T12:00:00Z", "2017-01-01T00:00:00Z", 1},
		{"2016-12-31T23:59:59.999999999Z", "2017-01-01T00:00:00Z", 1},
		{"2017-01-01T00:00:00Z", "2026-01-01T00:00:00Z", -1},
		{"2026-01-01T00:00:00Z", "", 0},
		{"2000-01-01T00:00:00Z", "", 0}, // the list doesn't say what came before its first entry
	} {
		when, seconds, ok := table.Next(at(c.now))
		if ok != (c.at != "") || ok && (when != at(c.at) || seconds != c.seconds) {
			t.Errorf("after %s: %v %d %v", c.now, time.Unix(0, int64(when)).UTC(), seconds, ok)
		}
	}
	if table.Expired(table.Expires-1) || !table.Expired(table.Expires) {
		t.Error("expiry is off")
	}
}

func TestParseErrors(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"empty", "", "checksum (#h) missing: file cut short?"},
		{"cut short", iers[:len(iers)-60], "checksum (#h) missing"},
		{"edited", strings.Replace(iers, "3692217600      37", "3692304000      37", 1), "damaged or edited"},
		{"no expiry", strings.Replace(iers, "#@", "#", 1), "expiry (#@) missing"},
		{"two dates", "#$ 3900000000\n#$ 3900000000\n", "line 2: second date (#$)"},
		{"two checksums", iers + "#h 1 2 3 4 5\n", "second checksum"},
		{"short checksum", "#h 1 2 3 4\n", "line 1: checksum (#h) has 4 words, want 5"},
		{"not a number", "#$ 3900000000\n2272060800 ten\n", `line 2: TAI - UTC is "ten"`},
		{"too many words", "2272060800 10 11\n", "line 1: "},
		{"negative", "-1 10\n", `line 1: "-1" isn't seconds since 1900`},
		{"not midnight", "2272060801 10\n", "line 1: leap second that isn't at midnight"},
		{"backwards", "2287785600 11\n2272060800 10\n", "line 2: leap second that isn't after"},
		{"two seconds", "2272060800 10\n2287785600 12\n", "line 2: TAI - UTC changes by 2 s"},
		{"expired when made", list("3900000000", "3900000000", "3692217600 37"), "not after the date"},
		{"other file", strings.Repeat("<html>\n", 1000), "line 10: "},
	} {
		_, err := Parse([]byte(c.text))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
		if err != nil && len(err.Error()) > 2000 {
			t.Errorf("%s: error of %d octets", c.name, len(err.Error()))
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(iers))
	f.Add([]byte(list("3900000000", "4100000000", "3692217600 37", "3976214400 36")))
	f.Add([]byte("#h 1 2 3 4 5\n#$ 1\n#@ 99999999999999999999\n1 1"))
	f.Fuzz(func(t *testing.T, text []byte) {
		table, err := Parse(text)
		if err != nil {
			return
		}
		if len(table.Entries) == 0 || table.Expires <= table.Updated {
			t.Fatalf("accepted %+v", table)
		}
		for i, e := range table.Entries {
			if table.At(e.At) != e.Offset {
				t.Fatalf("entry %d isn't found", i)
			}
			if at, s, ok := table.Next(e.At - 1); i > 0 && (!ok || at != e.At || s != 1 && s != -1) {
				t.Fatalf("entry %d isn't next: %v %v %v", i, at, s, ok)
			}
		}
	})
}
