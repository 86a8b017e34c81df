package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"

	"github.com/u-root/u-root/pkg/cpio"

	"komainu/tools/vmtest/job"
)

// wanted are the aliases that the kernel asks for by itself; the many thousand
// others are those of devices, which the guest doesn't have.
var wanted = regexp.MustCompile(`(?m)^alias (act|char-major|cls|crypto|fs|ip6?t|net|nf|nfct|nfnetlink|nft|rtnl|sch|tcp|xfrm)[-_].*\n`)

// writeInitramfs packs the guest, its plan and the modules that it needs before
// it can see the host's files. Raw: a compressed one boots a second later.
func writeInitramfs(ctx context.Context, name string, k kernel, plan job.Plan) error {
	guest := filepath.Join(filepath.Dir(name), "guest")
	if _, err := output(ctx, "", "go", "build", "-trimpath", "-ldflags=-s -w", "-o", guest, "komainu/tools/vmtest/guest"); err != nil {
		return err
	}
	binary, err := os.ReadFile(guest)
	if err != nil {
		return err
	}
	text, err := json.Marshal(plan)
	if err != nil {
		return err
	}
	dep, err := os.ReadFile(filepath.Join(k.modules, "modules.dep"))
	if err != nil {
		return err
	}
	alias, err := os.ReadFile(filepath.Join(k.modules, "modules.alias"))
	if err != nil {
		return err
	}
	root := filepath.Join(job.ModuleRoot[1:], k.release)
	records := []cpio.Record{
		cpio.CharDev("dev/console", 0o600, 5, 1),
		cpio.StaticFile("init", string(binary), 0o755),
		cpio.StaticFile(job.PlanFile[1:], string(text), 0o644),
		cpio.StaticFile(filepath.Join(root, "modules.dep"), string(dep), 0o644),
		cpio.StaticFile(filepath.Join(root, "modules.alias"), string(bytes.Join(wanted.FindAll(alias, -1), nil)), 0o644),
		cpio.Symlink("sbin/modprobe", "/init"),
	}
	deps, err := readDeps(k)
	if err != nil {
		return err
	}
	files, _ := deps.Files(plan.Boot...)
	for _, file := range files {
		body, err := os.ReadFile(filepath.Join(k.modules, file))
		if err != nil {
			return err
		}
		records = append(records, cpio.StaticFile(filepath.Join(root, file), string(body), 0o644))
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	w := cpio.Newc.Writer(f)
	if err := cpio.WriteRecordsAndDirs(w, records); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := cpio.WriteTrailer(w); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return f.Close()
}
