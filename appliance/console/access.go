package console

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"komainu/appliance/accounts"
	"komainu/appliance/control"
	"komainu/drivers/files"
)

// AccessFiles is where the commands about people and secrets find them.
type AccessFiles struct {
	State, Run string // folders
	Config     string // file
	// Users gives the [[user]] of the configuration; nil: none.
	Users func() ([]accounts.User, error)
}

// Access are the commands about who may log in, the secrets and the audit. They
// work on the files of this box; the kernel lets only root do so.
func Access(f AccessFiles) []Command {
	return append(f.people(), f.secret()...)
}

func (f AccessFiles) secret() []Command {
	name := []Arg{{Name: "NAME"}}
	return []Command{
		{Path: []string{"secret", "delete"}, Role: control.Admin, Help: "usage-secret-delete", Args: name, Run: f.deleteSecret},
		{Path: []string{"secret", "list"}, Role: control.Admin, Help: "usage-secret-list", Run: f.listSecrets},
		{Path: []string{"secret", "set"}, Role: control.Admin, Help: "usage-secret-set", Args: name, Run: f.setSecret},
	}
}

func (f AccessFiles) secrets() files.Secrets {
	return files.Secrets{Dir: filepath.Join(f.State, "secrets")}
}

var secretForm = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$`)

func secretName(name string) error {
	if !secretForm.MatchString(name) {
		return &control.Error{Code: "secret-name", Args: []string{name}, Status: 400}
	}
	return nil
}

// pipedMost bounds what is piped into a command, in bytes.
const pipedMost = 64 << 10

// twice asks for a word that isn't shown until it was typed twice alike; where
// nobody can be asked, it is all that is piped in, without a line end.
func (in *Invocation) twice(ctx context.Context, prompt string) (string, error) {
	if in.Ask == nil && in.In != nil {
		all, err := io.ReadAll(io.LimitReader(in.In, pipedMost+1))
		return string(bytes.TrimRight(all, "\r\n")), err
	}
	if in.Ask == nil {
		return "", &control.Error{Code: "nobody-to-ask"}
	}
	one, err := in.Ask(ctx, prompt+": ")
	if err != nil {
		return "", thoughtBetter(err)
	}
	two, err := in.Ask(ctx, "again: ")
	if err != nil {
		return "", thoughtBetter(err)
	}
	if one != two {
		return "", &control.Error{Code: "serial-password-differs"}
	}
	return one, nil
}

// thoughtBetter is err, but ^D at a prompt has nothing to be told.
func thoughtBetter(err error) error {
	if errors.Is(err, io.EOF) {
		return errReported
	}
	return err
}

func (f AccessFiles) setSecret(ctx context.Context, in *Invocation) error {
	name := in.Args[0]
	if err := secretName(name); err != nil {
		return err
	}
	word, err := in.twice(ctx, "secret")
	if err != nil {
		return err
	}
	if word == "" {
		return &control.Error{Code: "secret-empty", Args: []string{name}}
	}
	if strings.Contains(word, "\n") { // a PEM file ends in a line end
		word += "\n"
	}
	if err := f.secrets().Put(name, []byte(word)); err != nil {
		return err
	}
	return in.tell("secret-kept", name)
}

func (f AccessFiles) listSecrets(_ context.Context, in *Invocation) error {
	all, err := f.secrets().List()
	if err != nil {
		return err
	}
	if in.JSON {
		return json.NewEncoder(in.Out).Encode(all)
	}
	if len(all) == 0 {
		return in.tell("secret-none")
	}
	var s sheet
	for _, i := range all {
		s.add(i.Name, fmt.Sprintf("%s  %s", i.Changed.Format(auditTime), size(uint64(i.Bytes))))
	}
	_, err = fmt.Fprint(in.Out, s.text())
	return err
}

func (f AccessFiles) deleteSecret(_ context.Context, in *Invocation) error {
	name := in.Args[0]
	if err := secretName(name); err != nil {
		return err
	}
	text, err := os.ReadFile(f.Config)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("does the configuration refer to secret:%s? %w", name, err)
	}
	if regexp.MustCompile(`secret:` + regexp.QuoteMeta(name) + `["']`).Match(text) {
		return &control.Error{Code: "secret-in-use", Args: []string{name}}
	}
	if err := f.secrets().Delete(name); errors.Is(err, fs.ErrNotExist) {
		return &control.Error{Code: "secret-missing", Args: []string{name}}
	} else if err != nil {
		return err
	}
	return in.tell("secret-deleted", name)
}

// tell shows one sentence, or nothing with --json.
func (in *Invocation) tell(code string, args ...string) error {
	if in.JSON {
		return nil
	}
	return in.line(code, args...)
}

func (f AccessFiles) book() accounts.Book {
	return accounts.Book{State: f.State, Users: f.Users}
}
