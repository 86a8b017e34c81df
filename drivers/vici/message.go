package vici

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Bounds of the protocol, and of what is believed of charon.
const (
	maxPacket = 512 << 10 // of either side (vici_socket.h)
	maxName   = 255
	maxValue  = 65535
	maxDepth  = 16
)

// ErrMalformed is wrapped when a message can't be read.
var ErrMalformed = errors.New("malformed vici message")

// Message is a section: named values, lists and further sections, in their order.
type Message []Item

// Item is one of them.
type Item struct {
	Name    string
	Kind    Kind
	Value   []byte   // of a Value
	List    [][]byte // of a List
	Section Message  // of a Section
}

// Kind tells what an Item is.
type Kind uint8

// The kinds.
const (
	Value Kind = iota
	List
	Section
)

// Elements on the wire.
const (
	elementSection    = 1
	elementSectionEnd = 2
	elementValue      = 3
	elementList       = 4
	elementListItem   = 5
	elementListEnd    = 6
)

// text makes a value.
func text(name, value string) Item { return Item{Name: name, Value: []byte(value)} }

// list makes a list.
func list(name string, values ...string) Item {
	i := Item{Name: name, Kind: List}
	for _, v := range values {
		i.List = append(i.List, []byte(v))
	}
	return i
}

// blobs makes a list of bytes.
func blobs(name string, values ...[]byte) Item { return Item{Name: name, Kind: List, List: values} }

// section makes a section.
func section(name string, items ...Item) Item {
	return Item{Name: name, Kind: Section, Section: items}
}

// Text is the value of that name, or "".
func (m Message) Text(name string) string {
	for _, i := range m {
		if i.Name == name && i.Kind == Value {
			return string(i.Value)
		}
	}
	return ""
}

// Texts is the list of that name.
func (m Message) Texts(name string) []string {
	for _, i := range m {
		if i.Name == name && i.Kind == List {
			var out []string
			for _, v := range i.List {
				out = append(out, string(v))
			}
			return out
		}
	}
	return nil
}

// Sub is the section of that name.
func (m Message) Sub(name string) Message {
	for _, i := range m {
		if i.Name == name && i.Kind == Section {
			return i.Section
		}
	}
	return nil
}

// Encode is m on the wire. Errors: a name, a value or the whole is too long.
func (m Message) Encode() ([]byte, error) {
	b, err := m.append(nil, 0)
	if err == nil && len(b) > maxPacket {
		err = fmt.Errorf("vici message of %d bytes: at most %d fit", len(b), maxPacket)
	}
	return b, err
}

func (m Message) append(b []byte, depth int) ([]byte, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("vici message: more than %d sections inside each other", maxDepth)
	}
	for _, i := range m {
		if len(i.Name) > maxName {
			return nil, fmt.Errorf("vici name of %d bytes: at most %d fit", len(i.Name), maxName)
		}
		var err error
		switch i.Kind {
		case Value:
			b, err = appendValue(appendName(b, elementValue, i.Name), i.Value)
		case List:
			b = appendName(b, elementList, i.Name)
			for _, v := range i.List {
				if b, err = appendValue(append(b, elementListItem), v); err != nil {
					break
				}
			}
			b = append(b, elementListEnd)
		case Section:
			b, err = i.Section.append(appendName(b, elementSection, i.Name), depth+1)
			b = append(b, elementSectionEnd)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", i.Name, err)
		}
	}
	return b, nil
}

func appendName(b []byte, element byte, name string) []byte {
	return append(append(b, element, byte(len(name))), name...) //nolint:gosec // at most maxName, checked
}

func appendValue(b, v []byte) ([]byte, error) {
	if len(v) > maxValue {
		return nil, fmt.Errorf("vici value of %d bytes: at most %d fit", len(v), maxValue)
	}
	return append(binary.BigEndian.AppendUint16(b, uint16(len(v))), v...), nil //nolint:gosec // checked
}

// Decode reads a message; what it returns doesn't hold b. It never panics, and
// what it allocates is bounded by the length of b.
func Decode(b []byte) (Message, error) {
	if len(b) > maxPacket {
		return nil, fmt.Errorf("%w: %d bytes", ErrMalformed, len(b))
	}
	d := decoder{rest: b}
	m := d.section(0)
	if d.err != nil {
		return nil, d.err
	}
	return m, nil
}

type decoder struct {
	rest []byte
	err  error
}

func (d *decoder) fail(what string) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: %s", ErrMalformed, what)
	}
	d.rest = nil
}

func (d *decoder) take(n int) []byte {
	if n > len(d.rest) {
		d.fail("cut off")
		return nil
	}
	v := d.rest[:n]
	d.rest = d.rest[n:]
	return v
}

func (d *decoder) byte() byte {
	if v := d.take(1); v != nil {
		return v[0]
	}
	return 0
}

func (d *decoder) name() string { return string(d.take(int(d.byte()))) }

func (d *decoder) value() []byte {
	n := d.take(2)
	if n == nil {
		return nil
	}
	return append([]byte{}, d.take(int(binary.BigEndian.Uint16(n)))...)
}

// section reads items up to the section's end, or the message's.
func (d *decoder) section(depth int) Message {
	var m Message
	if depth > maxDepth {
		d.fail("too many sections inside each other")
	}
	for d.err == nil {
		if len(d.rest) == 0 {
			if depth > 0 {
				d.fail("a section has no end")
			}
			return m
		}
		switch e := d.byte(); e {
		case elementSection:
			i := Item{Name: d.name(), Kind: Section}
			i.Section = d.section(depth + 1)
			m = append(m, i)
		case elementSectionEnd:
			if depth == 0 {
				d.fail("a section ends that never began")
			}
			return m
		case elementValue:
			i := Item{Name: d.name()}
			i.Value = d.value()
			m = append(m, i)
		case elementList:
			m = append(m, d.list())
		default:
			d.fail(fmt.Sprintf("element %d", e))
		}
	}
	return m
}

func (d *decoder) list() Item {
	i := Item{Name: d.name(), Kind: List}
	for d.err == nil {
		switch e := d.byte(); e {
		case elementListItem:
			i.List = append(i.List, d.value())
		case elementListEnd:
			return i
		default:
			d.fail(fmt.Sprintf("element %d in a list", e))
		}
	}
	return i
}
