// Package layout says where everything stands on the box: partitions, files of
// the EFI partition, folders of the data partition, files of the image. The
// builder writes it, PID 1 mounts it, updates change it, tools/flash copies it.
// It holds names only and imports nothing of ours. Start reading at the constants.
package layout

// Machine is what a bundle must be made for.
const Machine = "x86_64-uefi"

// Partitions of a disk that holds the appliance (GPT, UEFI 2.10 section 5.3).
// They are found by type and name, never by number or by the name of the disk.
const (
	ESPType  = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
	ESPName  = "komainu-efi"
	ESPLabel = "KOMAINU" // of its FAT
	ESPBytes = 1 << 30   // the least; room for three images and the next one

	DataType  = "0FC63DAF-8483-4772-8E79-3D69D8477DE4" // Linux filesystem data
	DataName  = "komainu-data"
	DataLabel = "komainu-data" // of its ext4
	DataBytes = 2 << 30        // the least; it takes the rest of the disk
)

// Files of the EFI partition, as paths below its root.
const (
	Loader     = "EFI/BOOT/BOOTX64.EFI" // systemd-boot at the removable path
	LoaderConf = "loader/loader.conf"
	// Images holds the boot loader's entries of type 2 (Boot Loader
	// Specification): ImagePrefix VERSION [+LEFT[-DONE]] ".efi".
	Images      = "EFI/Linux"
	ImagePrefix = "komainu-"
	ImageSuffix = ".efi"
	// Rescue is started by the entry RescueConf when nothing else starts, or when
	// somebody picks it; PID 1 then finds RescueFlag in the kernel's command line.
	Rescue     = "EFI/komainu/rescue.efi"
	RescueConf = "loader/entries/rescue.conf"
	RescueFlag = "komainu.rescue"
	// Part ends the name of a file that is being written; nothing reads it.
	Part = ".part"
)

// Tries is how often the loader starts a new image before it goes back.
const Tries = 3

// Folders and files of a running box.
const (
	EFIMount  = "/efi"  // the EFI partition; read-only but during an update
	DataMount = "/data" // the data partition; a tmpfs when there is none that can be used
	Config    = "/data/config/komainu.toml"
	State     = "/data/state"
	Run       = "/run/komainu"

	// Of the image itself.
	Program   = "/bin/komainu" // every applet of ours; /init and /sbin/modprobe point to it
	BuildFile = "/etc/komainu/build.json"
	Keys      = "/etc/komainu/keys" // NAME.pub: minisign public keys that bundles are signed with
	Modules   = "/lib/modules"      // RELEASE/modules.dep, modules.alias, the modules
	Charon    = "/usr/lib/ipsec/charon"
	Postgres  = "/usr/lib/postgresql/15/bin"
)

// Users of the image, by their fixed numbers (user and group alike).
const (
	PostgresUser, PostgresID = "postgres", 70
	CharonUser, CharonID     = "charon", 71
)

// Build is BuildFile.
type Build struct {
	Version Version `json:"version"`
	Machine string  `json:"machine"` // Machine
	Kernel  string  `json:"kernel"`  // as uname -r prints it
	Unix    int64   `json:"unix"`    // when the source was committed, s since 1970: the time is never earlier
	Commit  string  `json:"commit"`
}
