package main

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
)

// ownDir makes a folder of PostgreSQL's account, as its programs demand.
func ownDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return give(dir)
}

// writeOwned writes a file of PostgreSQL's account.
func writeOwned(name string, text []byte) error {
	if err := os.WriteFile(name, text, 0o600); err != nil {
		return err
	}
	return give(name)
}

func give(name string) error {
	u, err := user.Lookup("postgres")
	if err != nil {
		return fmt.Errorf("the account of PostgreSQL: %w", err)
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return err
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return err
	}
	return os.Chown(name, uid, gid)
}
