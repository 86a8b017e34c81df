package timer

import "komainu/ntp/wall"

func (t *Timer) nextLeap() (wall.Time, int, bool) { return 0, 0, false }
