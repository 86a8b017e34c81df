package boxes

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Repository is the folder with the go.mod that the working directory is in.
func Repository() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
	}
	return "", errors.New("no go.mod here or above: run this inside the repository")
}

// Image is out/komainu.img, built now if it isn't there or its sources have
// changed since.
func Image(t testing.TB) string {
	t.Helper()
	name, err := BuildImage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// BuildImage is Image without a test. Whoever comes second waits for the first.
func BuildImage(ctx context.Context) (string, error) {
	fail := func(err error) (string, error) { return "", fmt.Errorf("build the image: %w", err) }
	root, err := Repository()
	if err != nil {
		return fail(err)
	}
	out := filepath.Join(root, "out")
	if err := os.MkdirAll(out, 0o755); err != nil {
		return fail(err)
	}
	lock, err := os.OpenFile(filepath.Join(out, "komainu.img.lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return fail(err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return fail(err)
	}
	image, stamp := filepath.Join(out, "komainu.img"), filepath.Join(out, "komainu.img.sources")
	want, err := sources(ctx, root)
	if err != nil {
		return fail(err)
	}
	have, err := os.ReadFile(stamp)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fail(err)
	}
	if _, err := os.Stat(image); err == nil && string(have) == want {
		return image, nil
	}
	build := exec.CommandContext(ctx, "go", "run", "./images/build")
	build.Dir = root
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := build.CombinedOutput(); err != nil {
		return fail(fmt.Errorf("go run ./images/build: %w\n%s", err, text))
	}
	if _, err := os.Stat(image); err != nil {
		return fail(err)
	}
	if err := os.WriteFile(stamp, []byte(want), 0o644); err != nil {
		return fail(err)
	}
	return image, nil
}

// sources is a digest of every file of the repository that may get into the
// image: all but documents, tests and tools.
func sources(ctx context.Context, root string) (string, error) {
	list := exec.CommandContext(ctx, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	list.Dir = root
	names, err := list.Output()
	if err != nil {
		return "", fmt.Errorf("git ls-files: %w", err)
	}
	sum := sha256.New()
	for name := range strings.SplitSeq(string(names), "\x00") {
		if name == "" || strings.HasPrefix(name, "tools/") || strings.HasSuffix(name, ".md") || strings.HasSuffix(name, "_test.go") {
			continue
		}
		b, err := os.ReadFile(filepath.Join(root, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // deleted, not yet committed
		}
		if err != nil {
			return "", err
		}
		fmt.Fprintf(sum, "%s %d\n", name, len(b))
		sum.Write(b)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}
