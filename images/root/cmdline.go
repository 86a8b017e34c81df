package root

// Cmdline is the kernel's command line in the image. Consoles: a screen where
// there is one, and the first UART, which gets what is worse than an error and
// stays free for people otherwise; PID 1 finds the real ones. A kernel that
// oopses or hangs starts again after time to read why; the bounds are wide, since
// the hardware watchdog is there for what isn't noticed. Transparent huge pages
// would take some 100 MB: half of every small daemon's, and a reserve to make
// more of them.
const Cmdline = "console=tty0 console=ttyS0,115200n8 quiet loglevel=3 " +
	"panic=5 oops=panic softlockup_panic=1 watchdog_thresh=30 " +
	"transparent_hugepage=never random.trust_cpu=on efi_pstore.pstore_disable=0"
