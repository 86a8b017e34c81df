package health

import "komainu/appliance/control"

// Names of states; a state's number is its place.
const (
	boxImages = "accepted trial failed rescue"           // control.Image.State
	boxData   = "ok made repaired none"                  // control.Box.Data
	boxEnds   = "first order power watchdog panic trial" // control.Reset.Kind
)

// box is the machine and its image. Versions, reasons and faults are in the
// status: no label is meant for them.
func (o out) box(b *control.Box) {
	o.gauge("box_uptime_seconds", "time since the box started", b.UptimeS)
	o.gauge("box_memory_bytes", "memory of the machine", float64(b.Memory))
	o.gauge("box_data_state", "data partition: "+list(boxData), number(boxData, b.Data))
	o.gauge("box_fault_number", "what could not be done at the start", float64(len(b.Faults)))
	o.gauge("box_last_state", "how the run before ended: "+list(boxEnds)+"; -1 not known", number(boxEnds, b.Last.Kind))
	running := ""
	for _, i := range b.Images {
		if i.Running {
			running = i.State
		}
	}
	o.gauge("box_image_state", "of the running image: "+list(boxImages)+"; -1 not known", number(boxImages, running))
	o.gauge("box_failed_number", "images that failed and that nothing newer has overcome", float64(len(b.GivenUp())))
	left := 0.0
	if b.Trial != nil {
		left = b.Trial.LeftS
	}
	o.gauge("box_trial_left_seconds", "until the running image is given up; 0 when it isn't on trial", left)
}
