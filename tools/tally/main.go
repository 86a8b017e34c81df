// Command tally reads what `go test -v` prints, shows the result line of each
// package and everything that a failed one said, and ends with a count. It
// exits 1 when something failed or when the stream holds no result at all.
package main

import (
	"flag"
	"fmt"
	"os"

	"komainu/tools/tally/report"
)

func main() {
	to := flag.String("to", "", "append the count, as \"passed failed skipped\", to this file")
	flag.Parse()
	total, err := report.Copy(os.Stdout, os.Stdin)
	if err != nil {
		fmt.Fprintln(os.Stderr, "tally:", err)
		os.Exit(1)
	}
	if *to != "" {
		if err := total.AppendTo(*to); err != nil {
			fmt.Fprintln(os.Stderr, "tally:", err)
			os.Exit(1)
		}
	}
	fmt.Println(total)
	if !total.OK() {
		os.Exit(1)
	}
}
