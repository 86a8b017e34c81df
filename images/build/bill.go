package main

import (
	"context"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"

	"komainu/images/debs"
	"komainu/images/layout"
	"komainu/images/root"
)

// Of CycloneDX 1.5 (ECMA-424), what we fill in.
type (
	bill struct {
		Format     string      `json:"bomFormat"`
		Spec       string      `json:"specVersion"`
		Version    int         `json:"version"`
		Metadata   metadata    `json:"metadata"`
		Components []component `json:"components"`
	}
	metadata struct {
		Timestamp string     `json:"timestamp"`
		Component component  `json:"component"`
		Tools     []property `json:"properties"` // what the bytes depend on besides
	}
	component struct {
		Type       string     `json:"type"`
		Name       string     `json:"name"`
		Version    string     `json:"version"`
		PURL       string     `json:"purl,omitempty"`
		Hashes     []digest   `json:"hashes,omitempty"`
		Properties []property `json:"properties,omitempty"`
	}
	digest struct {
		Algorithm string `json:"alg"`
		Content   string `json:"content"`
	}
	property struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	}
)

// bootPackage is in the image, but not in its file system.
const bootPackage = "systemd-boot-efi"

// billOfMaterials lists what is in the image: the Debian packages that brought a
// file, our program, the Go modules of the two that Go built, the kernel's modules.
func billOfMaterials(ctx context.Context, r root.Root, packages []debs.Package) ([]byte, error) {
	zstd, err := exec.CommandContext(ctx, "zstd", "--version").Output()
	if err != nil {
		return nil, fmt.Errorf("zstd --version: %w", err)
	}
	b := bill{Format: "CycloneDX", Spec: "1.5", Version: 1, Metadata: metadata{
		Timestamp: time.Unix(r.Build.Unix, 0).UTC().Format(time.RFC3339),
		Component: component{Type: "operating-system", Name: "komainu", Version: string(r.Build.Version), Properties: []property{
			{"komainu:machine", r.Build.Machine}, {"komainu:kernel", r.Build.Kernel}, {"komainu:commit", r.Build.Commit},
		}},
		Tools: []property{{"komainu:go", runtime.Version()}, {"komainu:zstd", strings.TrimSpace(string(zstd))}},
	}}
	used := map[string]bool{bootPackage: true}
	for _, f := range r.Files {
		used[f.Package] = true
	}
	for _, p := range packages {
		if !used[p.Name] {
			return nil, fmt.Errorf("nothing of package %s is in the image: take it out of images/debs/packages", p.Name)
		}
		c := component{
			Type: "library", Name: p.Name, Version: p.Version,
			PURL:   "pkg:deb/debian/" + p.Name + "@" + url.PathEscape(p.Version) + "?arch=amd64&distro=bookworm",
			Hashes: []digest{{"SHA-256", p.SHA256}},
		}
		if strings.HasPrefix(p.Name, "linux-image-") {
			c.Type = "operating-system"
			for _, m := range r.Modules {
				c.Properties = append(c.Properties, property{"komainu:module", m})
			}
		}
		b.Components = append(b.Components, c)
	}
	ours, err := program(r)
	if err != nil {
		return nil, err
	}
	mods, err := goModules(r)
	if err != nil {
		return nil, err
	}
	b.Components = append(append(b.Components, ours), mods...)
	text, err := json.MarshalIndent(b, "", "\t")
	return append(text, '\n'), err
}

// program is what all the rest is there for.
func program(r root.Root) (component, error) {
	for _, f := range r.Files {
		if "/"+strings.TrimPrefix(f.Path, "usr/") != layout.Program {
			continue
		}
		body, err := os.ReadFile(f.Source)
		if err != nil {
			return component{}, err
		}
		return component{Type: "application", Name: "komainu", Version: string(r.Build.Version),
			Hashes: []digest{{"SHA-256", fmt.Sprintf("%x", sha256.Sum256(body))}}}, nil
	}
	return component{}, fmt.Errorf("%s is not in the image", layout.Program)
}

// goModules are those of the programs that Go built, sorted.
func goModules(r root.Root) ([]component, error) {
	seen := make(map[string]component)
	for _, f := range r.Files {
		if f.Group != "komainu" && f.Group != "shell" || f.Source == "" {
			continue
		}
		info, err := buildinfo.ReadFile(f.Source)
		if err != nil {
			continue // a key, or a program that isn't Go's
		}
		for _, m := range info.Deps {
			if m.Replace != nil {
				m = m.Replace
			}
			if m.Version == "" {
				continue // a folder
			}
			c := component{Type: "library", Name: m.Path, Version: m.Version, PURL: "pkg:golang/" + m.Path + "@" + m.Version}
			if m.Sum != "" {
				c.Properties = []property{{"komainu:gosum", m.Sum}}
			}
			seen[m.Path+"@"+m.Version] = c
		}
	}
	if len(seen) == 0 {
		return nil, errors.New("neither program says which Go modules it was built from")
	}
	var out []component
	for _, c := range seen {
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b component) int { return strings.Compare(a.PURL, b.PURL) })
	return out, nil
}
