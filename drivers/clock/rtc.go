package clock

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"komainu/ntp/wall"
)

// RTCDevice is the box's hardware clock, which keeps UTC.
const RTCDevice = "/dev/rtc0"

// ErrNoRTC says that the machine has no hardware clock.
var ErrNoRTC = errors.New("this machine has no hardware clock")

// ReadRTC is the second that the hardware clock shows; the true reading lies up
// to one second later. ErrNoRTC when there is no such device.
func ReadRTC(device string) (wall.Time, error) {
	f, err := openRTC(device)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	r, err := unix.IoctlGetRTCTime(int(f.Fd()))
	if err != nil {
		return 0, fmt.Errorf("read the hardware clock %s (its battery may be empty; it is set again once the box is synchronised): %w", device, err)
	}
	return wall.Time(time.Date(int(r.Year)+1900, time.Month(r.Mon+1), int(r.Mday),
		int(r.Hour), int(r.Min), int(r.Sec), 0, time.UTC).UnixNano()), nil
}

// SetRTC sets the hardware clock to t, right to a second. It is for a step by
// order and for the end of the daemon: in between the kernel sets it, and more
// exactly (SetSync). ErrNoRTC when there is no such device.
func SetRTC(device string, t wall.Time) error {
	f, err := openRTC(device)
	if err != nil {
		return err
	}
	defer f.Close()
	// Rounding down is right to half a second for the usual chip, whose first
	// second after it is set lasts half of one (MC146818).
	u := time.Unix(0, int64(t)).UTC()
	err = unix.IoctlSetRTCTime(int(f.Fd()), &unix.RTCTime{
		Year: int32(u.Year() - 1900), Mon: int32(u.Month() - 1), Mday: int32(u.Day()),
		Hour: int32(u.Hour()), Min: int32(u.Minute()), Sec: int32(u.Second()),
	})
	if err != nil {
		return fmt.Errorf("set the hardware clock %s to %s (needs CAP_SYS_TIME): %w", device, u.Format(time.DateTime), err)
	}
	return nil
}

func openRTC(device string) (*os.File, error) {
	f, err := os.Open(device)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ENODEV) {
		return nil, fmt.Errorf("%w: %w", ErrNoRTC, err)
	} else if err != nil {
		return nil, fmt.Errorf("open the hardware clock (one process at a time may): %w", err)
	}
	return f, nil
}
