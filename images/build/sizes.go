package main

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/klauspost/compress/zstd"

	"komainu/images/root"
)

// sizes says what takes the room. What a group takes in the image is estimated:
// each is compressed alone and quickly, and the sum scaled to what the whole takes.
func sizes(r root.Root, image []byte) (string, error) {
	kernel, err := os.Stat(r.Kernel)
	if err != nil {
		return "", err
	}
	byGroup := make(map[string]*group)
	var all []sized
	total := group{name: "initramfs"}
	for _, f := range r.Files {
		if !f.Mode.IsRegular() {
			continue
		}
		g := byGroup[f.Group]
		if g == nil {
			if g, err = newGroup(f.Group); err != nil {
				return "", err
			}
			byGroup[f.Group] = g
		}
		n, err := g.add(f)
		if err != nil {
			return "", err
		}
		all = append(all, sized{f.Path, n})
	}
	var groups []*group
	for _, g := range byGroup {
		if err := g.encoder.Close(); err != nil {
			return "", err
		}
		total.files, total.raw, total.packed.n = total.files+g.files, total.raw+g.raw, total.packed.n+g.packed.n
		groups = append(groups, g)
	}
	slices.SortFunc(groups, func(a, b *group) int { return cmp.Compare(b.packed.n, a.packed.n) })
	initramfs := int64(len(image)) - kernel.Size()
	scale := float64(initramfs) / float64(total.packed.n)

	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "komainu.efi\t\t\t%.1f MB\t\n", float64(len(image))/1e6)
	fmt.Fprintf(w, "\tfiles\tunpacked MB\tin the image MB\t\n")
	fmt.Fprintf(w, "kernel\t1\t\t%.1f\t\n", float64(kernel.Size())/1e6)
	for _, g := range groups {
		fmt.Fprintf(w, "%s\t%d\t%.1f\t%.1f\t\n", g.name, g.files, float64(g.raw)/1e6, scale*float64(g.packed.n)/1e6)
	}
	fmt.Fprintf(w, "initramfs\t%d\t%.1f\t%.1f\t\n", total.files, float64(total.raw)/1e6, float64(initramfs)/1e6)
	if err := w.Flush(); err != nil {
		return "", err
	}
	slices.SortFunc(all, func(a, b sized) int { return cmp.Compare(b.bytes, a.bytes) })
	fmt.Fprintf(&out, "the largest, unpacked:\n")
	for _, f := range all[:min(20, len(all))] {
		fmt.Fprintf(&out, "%8.1f  /%s\n", float64(f.bytes)/1e6, f.path)
	}
	return out.String(), nil
}

type sized struct {
	path  string
	bytes int64
}

type group struct {
	name    string
	files   int
	raw     int64
	packed  counter
	encoder *zstd.Encoder
}

func newGroup(name string) (*group, error) {
	g := &group{name: name}
	var err error
	g.encoder, err = zstd.NewWriter(&g.packed, zstd.WithEncoderConcurrency(1))
	return g, err
}

func (g *group) add(f root.File) (int64, error) {
	g.files++
	var from io.Reader = bytes.NewReader(f.Data)
	if f.Source != "" {
		src, err := os.Open(f.Source)
		if err != nil {
			return 0, err
		}
		defer src.Close()
		from = src
	}
	n, err := io.Copy(g.encoder, from)
	g.raw += n
	return n, err
}

type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}
