package config

import (
	"bytes"
	"errors"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// table is one TOML table as written, with places.
type table struct {
	name  string // for people: `[site]`, `[[path]]`, `probe`
	at    int    // offset of its header
	keys  []string
	vals  map[string]*value
	asked []string // keys that have a meaning here, in the order in which they were read
}

// value is one TOML value as written.
type value struct {
	key   int // offset of the key; of the value itself inside an array
	at    int // offset
	kind  unstable.Kind
	text  string   // scalars: as written, strings decoded
	items []*value // arrays, and [[tables]]
	table *table   // tables
	noted bool     // something was noted that makes it useless
}

func newTable(name string, at int) *table {
	return &table{name: name, at: at, vals: map[string]*value{}}
}

func (t *table) put(key string, v *value) {
	t.keys = append(t.keys, key)
	t.vals[key] = v
}

// maxSyntax is how many syntax errors are reported; more are echoes.
const maxSyntax = 20

// syntax reports what isn't TOML and returns data with those lines blanked, so
// that the rest can be read. go-toml stops at the first error; a blanked line
// lets it find the next one.
func (r *reader) syntax(data []byte) []byte {
	data = bytes.Clone(data)
	r.widths(data)
	for last := 0; ; {
		var all map[string]any
		err := toml.Unmarshal(data, &all)
		if err == nil {
			return data
		}
		r.cut = true
		row, column := 1, 1
		var at *toml.DecodeError
		if errors.As(err, &at) {
			row, column = at.Position()
		}
		if row <= last || len(r.problems) >= maxSyntax {
			return data
		}
		start := lineStart(r.data, row)
		r.bad(min(start+max(column-1, 0), len(r.data)), "config-syntax", strings.TrimPrefix(err.Error(), "toml: "))
		last = row
		blank(data, lineStart(data, row))
	}
}

// blank overwrites the line at start with spaces; below a header that can't be
// read, everything up to the next one, since nobody knows whose keys they are.
func blank(data []byte, start int) {
	header := bytes.HasPrefix(bytes.TrimLeft(data[start:], " \t"), []byte("["))
	for first := true; start < len(data); first = false {
		end := len(data)
		if i := bytes.IndexByte(data[start:], '\n'); i >= 0 {
			end = start + i
		}
		if !first && (!header || bytes.HasPrefix(bytes.TrimLeft(data[start:end], " \t"), []byte("["))) {
			return
		}
		for i := start; i < end; i++ {
			data[i] = ' '
		}
		start = end + 1
	}
}

// lineStart is the offset of the given row, 1 and up.
func lineStart(data []byte, row int) int {
	at := 0
	for ; row > 1; row-- {
		i := bytes.IndexByte(data[at:], '\n')
		if i < 0 {
			return at
		}
		at += i + 1
	}
	return at
}

// tree reads data into tables. Whatever go-toml refuses was reported before
// and is left out here.
func tree(data []byte) *table {
	root := newTable("", 0)
	here := root
	p := unstable.Parser{}
	p.Reset(data)
	for p.NextExpression() {
		e := p.Expression()
		switch e.Kind {
		case unstable.Table, unstable.ArrayTable:
			here = open(root, e)
		case unstable.KeyValue:
			if here != nil {
				assign(data, here, e, 0)
			}
		}
	}
	return root
}

// open goes to the table that a header names, and makes it; nil if the header
// contradicts what stands above it.
func open(root *table, e *unstable.Node) *table {
	here, path := root, ""
	for it := e.Key(); it.Next(); {
		k := it.Node()
		key, at := string(k.Data), int(k.Raw.Offset)
		if path != "" {
			path += "."
		}
		path += key
		v := here.vals[key]
		last := it.IsLast()
		switch {
		case v == nil && last && e.Kind == unstable.ArrayTable:
			v = &value{key: at, at: at, kind: unstable.Array}
			here.put(key, v)
		case v == nil:
			v = &value{key: at, at: at, kind: unstable.InlineTable, table: newTable("["+path+"]", at)}
			here.put(key, v)
		}
		if last && e.Kind == unstable.ArrayTable {
			if v.kind != unstable.Array {
				return nil
			}
			t := newTable("[["+path+"]]", at)
			v.items = append(v.items, &value{key: at, at: at, kind: unstable.InlineTable, table: t})
			return t
		}
		if v.kind == unstable.Array && len(v.items) > 0 {
			v = v.items[len(v.items)-1]
		}
		if v.table == nil {
			return nil
		}
		here = v.table
	}
	return here
}

// assign puts a key with its value into t, through the tables of a dotted key.
func assign(data []byte, t *table, e *unstable.Node, at int) {
	for it := e.Key(); it.Next(); {
		k := it.Node()
		key, pos := string(k.Data), int(k.Raw.Offset)
		if k.Raw.Length == 0 {
			pos = at
		}
		if it.IsLast() {
			if t.vals[key] == nil {
				v := read(data, e.Value(), afterEquals(data, pos+int(k.Raw.Length)), key)
				v.key = pos
				t.put(key, v)
			}
			return
		}
		v := t.vals[key]
		if v == nil {
			v = &value{key: pos, at: pos, kind: unstable.InlineTable, table: newTable(key, pos)}
			t.put(key, v)
		}
		if v.table == nil {
			return
		}
		t = v.table
	}
}

// read takes a value that stands at offset at, unless it knows better itself.
func read(data []byte, n *unstable.Node, at int, key string) *value {
	if n.Raw.Length > 0 {
		at = int(n.Raw.Offset)
	}
	v := &value{key: at, at: at, kind: n.Kind, text: string(n.Data)}
	switch n.Kind {
	case unstable.Array:
		for it := n.Children(); it.Next(); {
			v.items = append(v.items, read(data, it.Node(), at, key))
		}
	case unstable.InlineTable:
		v.table = newTable(key, at)
		for it := n.Children(); it.Next(); {
			assign(data, v.table, it.Node(), at)
		}
	}
	return v
}

// afterEquals is where the value begins whose key ends at offset at.
func afterEquals(data []byte, at int) int {
	rest := bytes.TrimLeft(data[at:], " \t")
	rest = bytes.TrimLeft(bytes.TrimPrefix(rest, []byte("=")), " \t")
	return len(data) - len(rest)
}
