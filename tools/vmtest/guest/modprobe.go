package main

import (
	"errors"
	"os"
	"path/filepath"

	"komainu/drivers/kmod"
	"komainu/tools/vmtest/job"
)

// allModules leads to all modules once the host's root is mounted.
const allModules = "/all-modules"

// linkModules puts the short index of the initramfs, which is quick to read,
// beside all modules of the host.
func linkModules(plan job.Plan) error {
	dir := filepath.Join(allModules, plan.Release)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	near := filepath.Join(job.ModuleRoot, plan.Release)
	for name, to := range map[string]string{
		"modules.dep": near, "modules.alias": near, "kernel": hostRoot + plan.ModuleDir,
	} {
		if err := os.Symlink(filepath.Join(to, name), filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// moduleRoot is where the kernel's requests are answered from.
func moduleRoot() string {
	if _, err := os.Stat(allModules); err != nil {
		return job.ModuleRoot
	}
	return allModules
}

// loadAll loads modules by name. Names that are not modules are built in: the
// host has checked that.
func loadAll(root, release string, names []string) error {
	l, err := kmod.Open(filepath.Join(root, release))
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := l.Load(name); err != nil && !errors.Is(err, kmod.ErrUnknown) {
			return err
		}
	}
	return nil
}
