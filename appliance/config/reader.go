package config

import (
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// reader turns the raw tree into tables' structs and notes every problem on
// the way. A reading method that finds none returns a zero or default value, so
// that reading always goes on to the end.
type reader struct {
	name     string
	data     []byte
	cut      bool // lines were blanked: what is missing may have stood there
	problems Problems
}

// get is the value of key, nil if there is none. Whatever is never asked for
// is an unknown key.
func (r *reader) get(t *table, key string) *value {
	t.asked = append(t.asked, key)
	if v := t.vals[key]; v != nil && !v.noted {
		return v
	}
	return nil
}

// missing notes that key is required and absent.
func (r *reader) missing(t *table, key string) {
	if !r.cut && t.vals[key] == nil {
		r.bad(t.at, "config-missing", key, t.name)
	}
}

// later refuses keys of parts that this version doesn't have.
func (r *reader) later(t *table, keys ...string) {
	for _, k := range keys {
		if v := t.vals[k]; v != nil {
			r.bad(v.key, "config-later", k)
		}
	}
	// Known, and yet nothing to offer as "did you mean".
	r.ignore(t, keys...)
}

func (r *reader) ignore(t *table, keys ...string) {
	for _, k := range keys {
		delete(t.vals, k)
	}
	t.keys = slices.DeleteFunc(t.keys, func(k string) bool { return slices.Contains(keys, k) })
}

// done notes the keys of t that nobody asked for.
func (r *reader) done(t *table) {
	for _, k := range t.keys {
		if slices.Contains(t.asked, k) {
			continue
		}
		known := slices.Clone(t.asked)
		slices.Sort(known)
		at, words, n := t.vals[k].key, strings.Join(slices.Compact(known), ", "), near(k, known)
		switch {
		case t.name == "" && n != "":
			r.bad(at, "config-unknown-table-near", k, n)
		case t.name == "":
			r.bad(at, "config-unknown-table", k, words)
		case n != "":
			r.bad(at, "config-unknown-near", k, t.name, n)
		default:
			r.bad(at, "config-unknown", k, t.name, words)
		}
	}
}

// child is the table that key names; nil and noted if required and absent.
func (r *reader) child(t *table, key string, required bool) *table {
	v := r.get(t, key)
	switch {
	case v == nil && t.vals[key] != nil:
		return nil
	case v == nil && required && !r.cut:
		r.bad(len(r.data), "config-missing-table", "["+key+"]")
		return nil
	case v == nil:
		return nil
	case v.table == nil:
		r.bad(v.key, "config-want-table", key)
	}
	return v.table
}

// part is the inline table that key names, an empty one if there is none.
func (r *reader) part(t *table, key string) *table {
	if c := r.child(t, key, false); c != nil {
		return c
	}
	return newTable(key, t.at)
}

// needs notes that key stands there without other.
func (r *reader) needs(t *table, key, other string) {
	if v := t.vals[key]; v != nil && t.vals[other] == nil {
		r.bad(v.key, "config-needs-too", key, other)
	}
}

// children are the tables of [[key]], each read by f.
func (r *reader) children(t *table, key string, f func(*table)) {
	v := r.get(t, key)
	switch {
	case v == nil:
		return
	case v.kind != unstable.Array || slices.ContainsFunc(v.items, func(i *value) bool { return i.table == nil }):
		r.bad(v.key, "config-want-tables", key)
		return
	}
	for _, i := range v.items {
		f(i.table)
		r.done(i.table)
	}
}

// place is the offset of key's value, or of the table if it has no such key.
func (t *table) place(key string) int {
	if v := t.vals[key]; v != nil {
		return v.at
	}
	return t.at
}

// item is the offset of the i-th value of key.
func (t *table) item(key string, i int) int {
	if v := t.vals[key]; v != nil && i < len(v.items) {
		return v.items[i].at
	}
	return t.place(key)
}

// near is the word that was probably meant, or nothing.
func near(s string, words []string) string {
	best, bound := "", min(2, len(s)/2)
	for _, w := range words {
		if d := distance(s, w); d <= bound {
			best, bound = w, d-1
		}
	}
	return best
}

// distance is how many letters must be added, dropped, changed or swapped with
// their neighbour to make b of a; words so long that nobody mistypes them
// count as different.
func distance(a, b string) int {
	if len(a) > 40 || len(b) > 40 {
		return 40
	}
	var before, last []int
	for i := 0; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		for j := range row {
			switch {
			case i == 0 || j == 0:
				row[j] = i + j
				continue
			case a[i-1] == b[j-1]:
				row[j] = last[j-1]
			default:
				row[j] = 1 + min(last[j-1], last[j], row[j-1])
			}
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
