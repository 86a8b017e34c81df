package clock

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// SetLeap tells the kernel to insert (+1) or delete (-1) a second at the end of
// this UTC day, or not to (0). The kernel keeps TAI right by itself then. It is
// needed again when somebody else set the clock, since that makes the kernel
// forget, and with 0 after the leap, or the next one is never taken. At the leap
// the clock reads a second wrong for up to a tick: the kernel moves it only then,
// though ReadState tells the new Phase and TAI from midnight on.
func SetLeap(seconds int) error {
	_, phase, err := now()
	if err != nil {
		return err
	}
	switch seconds {
	case 0:
		return announce(phase, 0)
	case 1:
		return announce(phase, unix.STA_INS)
	case -1:
		return announce(phase, unix.STA_DEL)
	}
	return fmt.Errorf("cannot announce a leap of %d seconds: +1, 0 or -1", seconds)
}

// announce writes the leap bits of the status. A kernel that has armed a leap
// forgets its time when the clock is set, but not that it has armed it, and then
// takes none (ntp_clear in kernel/time/ntp.c). Switching the phase-locked loop
// off and on sends it back to the start, from where it arms anew at the next
// second; but never during or after the leap, which would then be taken twice.
func announce(phase Phase, leap int32) error {
	tx, _, err := now()
	if err != nil {
		return err
	}
	status := tx.Status&^(unix.STA_INS|unix.STA_DEL) | leap
	writes := []int32{status}
	if leap != 0 && phase != PhaseLeap && phase != PhaseDone {
		writes = []int32{status | unix.STA_PLL, status &^ unix.STA_PLL, status}
	}
	for _, status := range writes {
		if err := adjust("announce a leap second, or none", unix.Timex{Modes: unix.ADJ_STATUS, Status: status}); err != nil {
			return err
		}
	}
	return nil
}

// maxTAI is the kernel's limit (MAX_TAI_OFFSET), beyond which it ignores a value.
const maxTAI = 100000

// SetTAI tells the kernel TAI − UTC in seconds, for CLOCK_TAI; 37 since 2017.
func SetTAI(seconds int) error {
	if seconds < 0 || seconds > maxTAI {
		return fmt.Errorf("cannot set TAI − UTC to %d s: the kernel takes 0..%d", seconds, maxTAI)
	}
	return adjust(fmt.Sprintf("set TAI − UTC to %d s", seconds), unix.Timex{
		Modes: unix.ADJ_TAI, Constant: int64(seconds),
	})
}
