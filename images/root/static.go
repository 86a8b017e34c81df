package root

import (
	"fmt"
	"io/fs"

	"komainu/drivers/vici"
	"komainu/images/layout"
)

// static are the folders, links, nodes and files of /etc that no package brings.
var static = []File{
	link("bin", "usr/bin"),
	link("sbin", "usr/sbin"),
	link("lib", "usr/lib"),
	link("lib64", "usr/lib64"),
	link("usr/bin/sh", "dash"),
	// Without it charon's vici fails without a word.
	link("var/run", "/run"),
	link("var/lock", "/run"),
	link("var/tmp", "/tmp"),
	link("etc/mtab", "/proc/self/mounts"),

	dir("data", 0o755),
	dir("dev", 0o755),
	dir("efi", 0o755),
	dir("mnt", 0o755),
	dir("proc", 0o555),
	dir("root", 0o700),
	dir("run", 0o755),
	dir("sys", 0o555),
	dir("tmp", 0o777|fs.ModeSticky),
	dir("var/lib", 0o755),

	node("dev/console", 0o600, 5, 1),
	node("dev/kmsg", 0o600, 1, 11),
	node("dev/null", 0o666, 1, 3),

	text("etc/hostname", "komainu\n"),
	text("etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"),
	text("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\nservices: files\n"),
	text("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"+
		user(layout.PostgresUser, layout.PostgresID)+user(layout.CharonUser, layout.CharonID)+
		"nobody:x:65534:65534:nobody:/:/bin/false\n"),
	text("etc/group", "root:x:0:\n"+
		group(layout.PostgresUser, layout.PostgresID)+group(layout.CharonUser, layout.CharonID)+"nogroup:x:65534:\n"),
	text("etc/profile", "export PATH=/usr/bin:/usr/sbin:/bbin:"+layout.Postgres+" HOME=/root LC_ALL=C.UTF-8\n"),
	text("etc/strongswan.conf", vici.Daemon(vici.Settings{Socket: "/run/charon.vici"})),
	text("etc/swanctl/swanctl.conf", "# Connections are loaded over vici.\n"),
}

func link(path, target string) File {
	return File{Path: path, Mode: fs.ModeSymlink | 0o777, Link: target, Group: "system"}
}

func dir(path string, mode fs.FileMode) File {
	return File{Path: path, Mode: fs.ModeDir | mode, Group: "system"}
}

func text(path, s string) File {
	return File{Path: path, Mode: 0o644, Data: []byte(s), Group: "system"}
}

func user(name string, id int) string {
	return fmt.Sprintf("%s:x:%d:%d:%[1]s:/:/bin/false\n", name, id, id)
}

func group(name string, id int) string { return fmt.Sprintf("%s:x:%d:\n", name, id) }

func node(path string, mode fs.FileMode, major, minor int) File {
	return File{Path: path, Mode: fs.ModeCharDevice | fs.ModeDevice | mode, Major: major, Minor: minor, Group: "system"}
}
