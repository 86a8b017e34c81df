package control

import "time"

// What PID 1 answers on its own socket, RUN/pid1.sock.
const (
	BoxPath   = "/v1/box"   // GET: Box, role viewer
	PowerPath = "/v1/power" // POST PowerOrder, role operator: Reply; the box goes down after the answer
	ImagePath = "/v1/image" // POST ImageOrder, role admin; an install streams ImageProgress as NDJSON
)

// Box is what PID 1 knows of the machine, its image and its disks.
type Box struct {
	Version string    `json:"version"`         // of the running image
	Entry   string    `json:"entry,omitempty"` // of the boot loader: "komainu-2026.11.22.1849+2-1.efi", "rescue.conf"; empty: not started by it
	Rescue  bool      `json:"rescue"`          // nothing of the appliance but the console runs
	Model   string    `json:"model"`           // of the machine, as its firmware says
	Serial  string    `json:"serial,omitempty"`
	Booted  time.Time `json:"booted"`
	UptimeS float64   `json:"uptime_s"`
	Memory  int64     `json:"memory_bytes"`
	Last    Reset     `json:"last"` // how the run before ended
	Trial   *Trial    `json:"trial,omitempty"`
	Images  []Image   `json:"images"`
	Data    string    `json:"data"`   // "ok", "made" (at this boot), "repaired" (at this boot), "none" (nothing is kept; Faults say why)
	Faults  []Reason  `json:"faults"` // what PID 1 could not do
	Disks   []Disk    `json:"disks"`
	Ports   []Port    `json:"ports"`
}

// Reset is how a run of the box ended.
type Reset struct {
	// Kind is "order" (restart, power off), "power" (nothing was said: power cut
	// or reset button), "watchdog", "panic" (of kernel or PID 1), "trial" (a new
	// image was given up), "first" (no run before).
	Kind   string    `json:"kind"`
	Reason Reason    `json:"reason"`           // of an order, a trial, a watchdog; may be empty
	Detail string    `json:"detail,omitempty"` // last lines of the kernel, where kept
	At     time.Time `json:"at,omitzero"`      // when it was recorded
}

// Trial is a new image that has not proved itself.
type Trial struct {
	LeftS   float64  `json:"left_s"`  // until it is given up
	Waiting []Reason `json:"waiting"` // what worked before and doesn't yet
	Excused []Reason `json:"excused"` // what worked before and can't be blamed on the image
}

// Image is one file that the boot loader can start, or one that it can no more.
type Image struct {
	Version string `json:"version"`
	File    string `json:"file,omitempty"` // below EFI/Linux; empty: removed
	// State is "accepted", "trial" (not yet started to the end), "failed" (never
	// tried again by itself), "rescue".
	State   string `json:"state"`
	Running bool   `json:"running"`
	Left    int    `json:"left,omitempty"` // tries, of a trial
	Reason  Reason `json:"reason"`         // of a failure
}

// Disk is a whole block device.
type Disk struct {
	Name      string `json:"name"` // "sda"
	Model     string `json:"model"`
	Serial    string `json:"serial"`
	Bytes     int64  `json:"bytes"`
	Bus       string `json:"bus"` // "usb", "nvme", "ata", "virtio", "scsi", "mmc"; empty: unknown
	Removable bool   `json:"removable"`
	System    bool   `json:"system"`            // the box runs from it
	Content   string `json:"content,omitempty"` // "komainu", "gpt", "mbr", a filesystem; empty: nothing known
}

// Port is an Ethernet link of the machine.
type Port struct {
	Name    string `json:"name"` // "eth0"
	PCI     string `json:"pci,omitempty"`
	Driver  string `json:"driver"`
	MAC     string `json:"mac"`
	Carrier bool   `json:"carrier"`
	Mbit    int    `json:"mbit,omitempty"` // 0: unknown
}

// PowerOrder ends the run of the box.
type PowerOrder struct {
	Action string `json:"action"` // "restart", "off", "rescue" (restart into the rescue entry)
	By     string `json:"by"`
	Reason string `json:"reason"`
}

// ImageOrder changes what the box starts from.
type ImageOrder struct {
	// Action is "install" (Source becomes the next image, on trial), "accept" (end
	// the trial now), "revert" (end it and go back), "to-disk" (install the
	// running image on the disk whose serial number is Disk; it is erased).
	Action  string `json:"action"`
	Source  string `json:"source,omitempty"` // "https://...", "usb:", "usb:NAME", an absolute path
	Disk    string `json:"disk,omitempty"`
	Again   bool   `json:"again,omitempty"`   // also a version that failed here
	Restart bool   `json:"restart,omitempty"` // start it at once
	By      string `json:"by"`
}

// ImageProgress is one line of an install's stream; the last one has Done or
// is an *Error.
type ImageProgress struct {
	Step  string   `json:"step"` // row of appliance/say: "image-step-..."
	Bytes int64    `json:"bytes,omitempty"`
	Of    int64    `json:"of,omitempty"`
	Done  bool     `json:"done,omitempty"`
	Args  []string `json:"args,omitempty"` // of Step
}
