package uart

import (
	"time"

	"komainu/ntp/instant"
)

// Search finds the speed of the terminal at the other end: it reads the marks
// of a Port and says when to try the other speed. It has no clock.
//
// Seen at 115200, every key of a terminal at 9600 is a BREAK, since its start
// bit alone is as long as a whole character. Seen at 9600, a key of a terminal
// at 115200 is a bit or two, which reads as a byte from 248 on without any
// error; such bytes stand in no text. So a few keys find either; BREAK works
// always.
type Search struct {
	Speed int // now: 115200 or 9600

	mark  int             // how much of a mark has been read: \377 1, \377 \0 2
	bad   int             // damaged bytes in a row
	since instant.Instant // of the last change
}

const (
	// badMost is how many damaged bytes in a row make a change.
	badMost = 3
	// settle is how long damaged bytes after a change count for nothing: they
	// are the rest of the key that caused it. A BREAK of a terminal program
	// takes 250 to 500 ms and is told once.
	settle = 300 * time.Millisecond
)

// Feed takes what a Port read at now and returns the bytes in it. With change
// the Speed is another one: the Port is to be set to it and its input dropped;
// what was read together with the damage isn't returned.
func (s *Search) Feed(now instant.Instant, b []byte) (data []byte, change bool) {
	for _, c := range b {
		switch {
		case s.mark == 0 && c == 0xff:
			s.mark = 1
			continue
		case s.mark == 1 && c == 0:
			s.mark = 2
			continue
		case s.mark == 2 && c == 0:
			s.bad = badMost // BREAK
		case s.mark == 2, s.Speed == 9600 && c >= 0xf8:
			s.bad++
		default:
			s.bad = 0
			data = append(data, c)
		}
		s.mark = 0
		if s.bad < badMost {
			continue
		}
		s.bad = 0
		if s.since != 0 && now.Sub(s.since) < settle {
			continue
		}
		s.since, s.Speed = now, other(s.Speed)
		return nil, true
	}
	return data, false
}

func other(speed int) int {
	if speed == 9600 {
		return 115200
	}
	return 9600
}
