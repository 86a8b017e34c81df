package boot

import (
	"cmp"
	"slices"
	"strings"

	"komainu/appliance/control"
	"komainu/drivers/blockdev"
	"komainu/images/disk"
	"komainu/images/layout"
)

// candidate is a disk with what decides about its data partition.
type candidate struct {
	blockdev.Disk
	unmade  bool          // MarkUnmade stands at its end
	fs      blockdev.Ext4 // of the data partition, when hasFS
	hasFS   bool
	unknown string // why the disk couldn't be read
}

// step is what to do with a data partition.
type step int

const (
	leave  step = iota // nothing: data goes to memory
	create             // partition and file system
	format             // the partition is there, made by us and empty
	check              // it has a file system: check, then mount
)

// plan is what to do with the disks.
type plan struct {
	disk   string // ours; empty: none
	esp    blockdev.Partition
	data   blockdev.Partition // as far as it exists
	do     step
	copy   int64            // of check: as blockdev.Ext4.Copy
	faults []control.Reason // why nothing is kept, and what else is wrong
}

// decide chooses the disk that the box runs from and what to do with its data
// partition. boot is the GUID of the EFI partition that the boot loader came
// from, empty when it is unknown. Only that disk is ever written to, and only
// in room that is nobody's. Disks are as blockdev lists them.
func decide(disks []candidate, boot string) plan {
	var ours, booted []candidate
	var faults []control.Reason
	for _, d := range disks {
		if d.unknown != "" {
			faults = append(faults, reason("boot-disk-unreadable", d.Name, d.unknown))
		}
		esp, ok := d.Find(layout.ESPType, layout.ESPName)
		if !ok {
			continue
		}
		ours = append(ours, d)
		if boot != "" && strings.EqualFold(esp.GUID, boot) {
			booted = append(booted, d)
		}
	}
	if len(booted) > 0 {
		ours = booted
	}
	if len(ours) == 0 || boot != "" && len(booted) == 0 {
		return plan{faults: append(faults, reason("boot-no-disk"))}
	}
	// Copies of one image have the same GUID. What was kept counts most; nothing
	// is made while it isn't certain which disk is meant.
	sure := len(ours) == 1
	slices.SortStableFunc(ours, func(a, b candidate) int { return cmp.Compare(rank(a), rank(b)) })
	d := ours[0]
	if !sure {
		var names []string
		for _, o := range ours {
			names = append(names, o.Name)
		}
		slices.Sort(names)
		faults = append(faults, reason("boot-two-disks", strings.Join(names, " "), d.Name))
	}
	p := plan{disk: d.Name, faults: faults}
	p.esp, _ = d.Find(layout.ESPType, layout.ESPName)
	data, there := d.Find(layout.DataType, layout.DataName)
	p.data = data
	refuse := func(code string, args ...string) plan {
		p.faults = append(p.faults, reason(code, args...))
		return p
	}
	fresh := d.unmade || there && data.Content == blockdev.Blank
	switch {
	case d.ReadOnly:
		return refuse("boot-disk-read-only", d.Name)
	case there && d.hasFS && d.fs.Label == layout.DataLabel && !d.unmade:
		p.do, p.copy = check, d.fs.Copy
	case !sure:
		// Said above.
	case !there && d.unknown != "":
		// A table that can't be read: said above.
	case !there && d.Bytes < disk.LeastBytes:
		return refuse("boot-no-room", d.Name)
	case !there:
		p.do = create
	case fresh:
		p.do = format
	default:
		return refuse("boot-data-foreign", data.Name, cmp.Or(foreign(d, data), "?"))
	}
	return p
}

// rank puts disks with our data first, then fixed ones.
func rank(d candidate) int {
	switch {
	case d.hasFS && d.fs.Label == layout.DataLabel && !d.unmade:
		return 0
	case d.Bus != "usb" && !d.Removable:
		return 1
	}
	return 2
}

// foreign is what stands in a data partition that isn't ours.
func foreign(d candidate, p blockdev.Partition) string {
	if d.hasFS && d.fs.Label != "" {
		return "ext4 " + d.fs.Label
	}
	return p.Content
}

// outcome is what a run of e2fsck means (e2fsck(8), exit code).
type outcome int

const (
	healthy  outcome = iota
	repaired         // with -y: files may be missing, or stand in lost+found
	again            // -p gave up: run -y
	hopeless
)

// judge reads the exit code of e2fsck; forced is -y.
func judge(code int, forced bool) outcome {
	switch {
	case code < 0 || code&(8|16|32|128) != 0 && forced:
		return hopeless
	case code&^3 != 0 && !forced:
		return again
	case code&4 != 0:
		return hopeless
	case code&1 != 0 && forced:
		return repaired
	}
	return healthy
}

// scarce says that what is left on the data partition is too little to work:
// less than 64 MiB, or less than 1 % of a small one; free and total in blocks.
func scarce(free, total uint64, block int64) bool {
	return free*uint64(block) < min(64<<20, total*uint64(block)/100) //nolint:gosec // a block has a size
}

func reason(code string, args ...string) control.Reason {
	return control.Reason{Code: code, Args: args}
}
