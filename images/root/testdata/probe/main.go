// Command probe is an init for one test: it starts what the image brings, says
// on the serial line what works, and turns the machine off.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"komainu/drivers/kmod"
	"komainu/images/layout"
)

func main() {
	if os.Getpid() != 1 {
		os.Exit(kmod.Modprobe(os.Args[1:], layout.Modules, io.Discard)) // the kernel's question
	}
	for _, m := range [][2]string{{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}, {"tmpfs", "/run"}, {"tmpfs", "/data"}} {
		check("mount "+m[1], syscall.Mount(m[0], m[1], m[0], 0, ""))
	}
	serial, err := os.OpenFile("/dev/ttyS0", os.O_RDWR, 0)
	if err == nil {
		os.Stdout = serial
	}
	check("own folder", os.Mkdir("/data/pg", 0o700))
	check("give folder", os.Chown("/data/pg", 70, 70))

	load("ext4", "nf_tables", "nft_chain_nat", "bonding", "8021q", "vrf", "xfrm_interface", "esp4", "esp6", "wireguard", "sch_cake",
		"sch_htb", "cls_bpf", "tcp_diag", "i6300esb", "softdog", "igb", "ice", "bnxt_en", "mlx5_core", "nvme", "uas", "mpt3sas", "efi_pstore")

	charon := exec.Command(layout.Charon)
	log, err := os.Create("/run/charon.log")
	check("charon's log", err)
	charon.Stderr, charon.Stdout = log, log
	check("charon starts", charon.Start())

	command(0, "/bin/sh", "-c", "echo from the shell")
	command(0, "/bbin/ls", "-l", "/sbin/modprobe")
	command(0, "/usr/bin/free")
	command(70, "/usr/lib/postgresql/15/bin/initdb", "-D", "/data/pg", "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync", "-k")
	command(70, "/bin/sh", "-c", "cd /data && printf '%s\n' "+
		"'create extension pgcrypto' 'create extension pg_trgm' \"select 'row ' || 40 + 2 || encode(digest('a', 'sha256'), 'hex')\" "+
		"'create collation ja (provider = icu, locale = \"ja-JP\")' "+
		"| /usr/lib/postgresql/15/bin/postgres --single -D /data/pg -c log_timezone=Asia/Tokyo postgres")
	command(0, "/sbin/mke2fs", "-q", "-t", "ext4", "/data/disk", "8M")
	command(0, "/sbin/e2fsck", "-fn", "/data/disk")
	for range 100 {
		if _, err = os.Stat("/run/charon.vici"); err == nil {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	check("charon's socket", err)
	_, err = os.Stat("/proc/" + strconv.Itoa(charon.Process.Pid) + "/exe")
	check("charon still runs", err)
	told, err := os.ReadFile("/run/charon.log")
	check("read charon's log", err)
	fmt.Print(strings.ReplaceAll(string(told), "\n", "\r\n"))
	mem, _ := os.ReadFile("/proc/meminfo")
	fmt.Printf("%s\r\n", strings.Join(strings.SplitN(string(mem), "\n", 6)[:5], "\r\n"))
	fmt.Print("DONE\r\n")
	_ = syscall.Reboot(syscall.LINUX_REBOOT_CMD_POWER_OFF)
	select {}
}

func load(names ...string) {
	release, err := kmod.Release()
	check("uname", err)
	loader, err := kmod.Open(layout.Modules + "/" + release)
	check("open the modules of "+release, err)
	for _, name := range names {
		if err == nil {
			check("load "+name, loader.Load(name))
		}
	}
}

func command(user uint32, argv ...string) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = []string{"PATH=/usr/bin:/bbin", "LC_ALL=C.UTF-8"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}}
	begin := time.Now()
	out, err := cmd.CombinedOutput()
	fmt.Printf("%s\r\n", strings.ReplaceAll(strings.TrimSpace(string(out)), "\n", "\r\n"))
	check(fmt.Sprintf("%s (%.1f s)", argv[0], time.Since(begin).Seconds()), err)
}

func check(what string, err error) {
	if err != nil {
		fmt.Printf("FAIL %s: %v\r\n", what, err)
		return
	}
	fmt.Printf("ok %s\r\n", what)
}
