package main

import (
	"fmt"
	"math"
	"os"
	"strings"
)

// plot draws the true error and the advertised root distance of a run over
// time, the distance on both sides of zero, on a scale of powers of ten.
func plot(path string, sc *scenario, points []point) error {
	const width, height, decades, least = 1200.0, 500.0, 7.0, 1e-6 // s
	x := func(p point) float64 { return width * float64(p.at) / float64(sc.duration) }
	y := func(v float64) float64 {
		d := max(0, math.Log10(math.Abs(v)/least)) / decades
		return height/2 - math.Copysign(min(d, 1), v)*height/2
	}
	every := max(1, len(points)/4000)
	var errors, above, below strings.Builder
	for i := 0; i < len(points); i += every {
		p := points[i]
		fmt.Fprintf(&errors, "%.1f,%.1f ", x(p), y(p.err))
		if p.bound > 0 {
			fmt.Fprintf(&above, "%.1f,%.1f ", x(p), y(p.bound))
			fmt.Fprintf(&below, "%.1f,%.1f ", x(p), y(-p.bound))
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="-60 -20 %.0f %.0f" font-family="sans-serif" font-size="11"><rect x="-60" y="-20" width="100%%" height="100%%" fill="white"/>`, width+80, height+60)
	for v := 10 * least; v < least*math.Pow(10, decades+0.5); v *= 10 {
		for _, s := range []float64{v, -v} {
			fmt.Fprintf(&b, `<line x1="0" x2="%.0f" y1="%.1f" y2="%.1f" stroke="#ddd"/><text x="-55" y="%.1f">%.0e s</text>`, width, y(s), y(s), y(s)+4, s)
		}
	}
	fmt.Fprintf(&b, `<text x="-55" y="%.1f">below 1 us</text>`, height/2+4)
	for _, line := range []struct{ color, points string }{{"#c60", above.String()}, {"#c60", below.String()}, {"#048", errors.String()}} {
		fmt.Fprintf(&b, `<polyline fill="none" stroke="%s" points="%s"/>`, line.color, line.points)
	}
	fmt.Fprintf(&b, `<text x="0" y="%.0f">%s, %v: true error (blue), advertised root distance (orange)</text></svg>`, height+25, sc.name, sc.duration)
	if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
		return fmt.Errorf("write the picture: %w", err)
	}
	return nil
}
