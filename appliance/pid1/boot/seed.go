package boot

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"komainu/drivers/files"
	"komainu/images/layout"
)

// Files that carry something from one boot to the next.
const (
	seedFile  = layout.State + "/random-seed"
	clockFile = layout.State + "/clock" // s since 1970, when it was written
	seedBytes = 512
)

// renewSeed writes a new seed first, then gives the kernel the old one: the
// same seed is never used twice. Without the right size and mode it isn't
// credited.
func renewSeed(path string) error {
	old, rerr := os.ReadFile(path)
	info, serr := os.Stat(path)
	if err := saveSeed(path); err != nil {
		return err
	}
	if rerr != nil || serr != nil || len(old) != seedBytes {
		return nil // the first boot
	}
	bits := int32(0)
	if info.Mode().Perm() == 0o600 {
		bits = 256 // what the kernel's generator can hold
	}
	// struct rand_pool_info of linux/random.h.
	pool := struct {
		bits, size int32
		buf        [seedBytes]byte
	}{bits: bits, size: seedBytes}
	copy(pool.buf[:], old)
	f, err := os.OpenFile("/dev/random", os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("give the kernel its seed: %w", err)
	}
	defer f.Close()
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.RNDADDENTROPY, uintptr(unsafe.Pointer(&pool))); errno != 0 {
		return fmt.Errorf("give the kernel its seed: %w", errno)
	}
	return nil
}

// saveSeed doesn't wait: a kernel without entropy has nothing to save.
func saveSeed(path string) error {
	seed := make([]byte, seedBytes)
	n, err := unix.Getrandom(seed, unix.GRND_NONBLOCK)
	if errors.Is(err, unix.EAGAIN) {
		return nil
	}
	if err != nil || n != len(seed) {
		return fmt.Errorf("get a random seed: %d bytes, %w", n, err)
	}
	return files.Replace(path, seed, 0o600)
}

// lastTime is what the clock file says; zero when there is none.
func lastTime(path string) int64 {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	s, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return 0
	}
	return s
}

func saveTime(path string, now time.Time) error {
	return files.Replace(path, []byte(strconv.FormatInt(now.Unix(), 10)+"\n"), 0o644)
}

// maxAhead keeps a damaged clock file from throwing the clock decades ahead,
// s: ten years after the build nobody runs it.
const maxAhead = 10 * 365 * 86400

// floor is the earliest time that it can be: the build's, or the last one
// known here. A battery that is empty starts the clock at 1970 or 2000.
func floor(build, last int64) int64 {
	if last > build+maxAhead {
		return build
	}
	return max(build, last)
}

// raiseClock sets the clock to the floor if it is earlier. The seconds by which
// it was moved come back; the kernel has read the hardware clock before.
func raiseClock(floor int64) (moved int64, err error) {
	now := time.Now().Unix()
	if now >= floor {
		return 0, nil
	}
	ts := unix.NsecToTimespec(floor * int64(time.Second))
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &ts); err != nil {
		return 0, fmt.Errorf("set the clock: %w", err)
	}
	return floor - now, nil
}
