package privilege

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Held is what a thread holds; of a process, the sum of its threads.
type Held struct {
	Effective, Permitted, Inheritable, Bounding, Ambient Set
	NoNewPrivs                                           bool // of all threads
}

// Of reads /proc/PID/task/*/status (proc_pid_status(5)); pid may be "self". It
// needs no privilege for a process of the same user.
func Of(pid string) (Held, error) {
	files, err := filepath.Glob("/proc/" + pid + "/task/*/status")
	if err != nil || len(files) == 0 {
		return Held{}, fmt.Errorf("privileges of process %s: no threads below /proc: is it mounted, does the process run?", pid)
	}
	all, read := Held{NoNewPrivs: true}, false
	for _, file := range files {
		text, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue // the thread has ended
		}
		var h Held
		if err == nil {
			h, err = parse(string(text))
		}
		if err != nil {
			return Held{}, fmt.Errorf("privileges of process %s: %s: %w", pid, file, err)
		}
		read = true
		all.Effective |= h.Effective
		all.Permitted |= h.Permitted
		all.Inheritable |= h.Inheritable
		all.Bounding |= h.Bounding
		all.Ambient |= h.Ambient
		all.NoNewPrivs = all.NoNewPrivs && h.NoNewPrivs
	}
	if !read {
		return Held{}, fmt.Errorf("privileges of process %s: it has ended", pid)
	}
	return all, nil
}

// parse reads the lines that concern privileges; all must be there.
func parse(status string) (Held, error) {
	var h Held
	want := map[string]*Set{"CapEff": &h.Effective, "CapPrm": &h.Permitted, "CapInh": &h.Inheritable, "CapBnd": &h.Bounding, "CapAmb": &h.Ambient}
	none := false
	for line := range strings.Lines(status) {
		key, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		if key == "NoNewPrivs" {
			h.NoNewPrivs, none = value == "1", true
		}
		set := want[key]
		if set == nil {
			continue
		}
		n, err := strconv.ParseUint(value, 16, 64)
		if err != nil {
			return h, fmt.Errorf("%s: %w", key, err)
		}
		*set = Set(n)
		delete(want, key)
	}
	if len(want) > 0 || !none {
		return h, errors.New("a line of Cap... or NoNewPrivs is missing")
	}
	return h, nil
}
