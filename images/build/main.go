// Command build makes the image: komainu.efi, one UEFI program with kernel,
// command line and initramfs; komainu.img, a disk to write to a stick; and what
// describes them. It needs no root, and the same inputs give the same bytes.
// Start reading at build.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "image:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("build", flag.ContinueOnError)
	var o options
	flags.StringVar(&o.out, "o", "out", "folder for the results, and in image/ for what is kept between builds")
	flags.StringVar(&o.version, "version", "", "version of the image, numbers between dots; default: the time of the commit")
	flags.StringVar(&o.keys, "keys", "", "folder with NAME.pub, the keys that the box accepts; a single NAME.key there without a password signs the bundle; default: OUT/keys, made once")
	flags.StringVar(&o.program, "program", "", "binary that becomes /bin/komainu; default: built from ./appliance")
	flags.Func("add", "one more file, HOSTFILE:/path[:mode]; may be repeated", func(s string) error {
		f, err := addition(s)
		o.add = append(o.add, f)
		return err
	})
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	begin := time.Now()
	o.tell = func(s string) { fmt.Printf("image: %3.0f s  %s\n", time.Since(begin).Seconds(), s) }
	return build(ctx, o)
}
