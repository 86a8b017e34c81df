package revisions

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"sync"

	"komainu/appliance/control"
	"komainu/drivers/files"
)

// candidateVersion is the format of candidates/USER.json.
const candidateVersion = 1

// userForm keeps what can't be a name out of file names.
var userForm = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]{0,31}$`)

// candidates are what people edit, a file each below State. They say nothing
// about what runs, so they don't take turns with commits.
type candidates struct {
	mu  sync.Mutex
	dir string
}

func (c *candidates) path(user string) (string, error) {
	if !userForm.MatchString(user) {
		return "", &control.Error{Code: "bad-request", Args: []string{"user=" + user}, Status: http.StatusBadRequest}
	}
	return filepath.Join(c.dir, user+".json"), nil
}

func (c *candidates) get(_ context.Context, r *control.Request) (any, error) {
	path, err := c.path(r.Query("user"))
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var x control.Candidate
	if err := files.ReadJSON(path, candidateVersion, &x); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return x, nil
}

func (k *Keeper) keepCandidate(_ context.Context, r *control.Request) (any, error) {
	var o control.CandidateOrder
	if err := r.Decode(&o); err != nil {
		return nil, err
	}
	c := &k.candidates
	path, err := c.path(o.User)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if o.Discard {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		return control.Candidate{}, nil
	}
	x := control.Candidate{Text: o.Text, Base: o.Base, Exists: true, At: k.o.Wall()}
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return nil, refusal(err)
	}
	if err := files.ReplaceJSON(path, candidateVersion, x); err != nil {
		return nil, refusal(err)
	}
	return x, nil
}
