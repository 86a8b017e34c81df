package candidate

import (
	"strings"
)

const (
	around  = 2       // lines shown around a change
	diffMax = 4 << 20 // pairs of lines that are compared with each other
)

// Compare is what to change in before to get after, by lines: "- " goes, "+ "
// comes, two lines stay around it, and above each place stands the table that
// it is in. Empty: nothing.
func Compare(before, after string) string {
	a, b := split(before), split(after)
	all := edits(a, b)
	var out strings.Builder
	for i := 0; i < len(all); {
		if all[i].mark == ' ' {
			i++
			continue
		}
		last := i
		for j := i; j < len(all) && j <= last+2*around; j++ {
			if all[j].mark != ' ' {
				last = j
			}
		}
		first, end := max(0, i-around), min(len(all), last+around+1)
		if out.Len() > 0 {
			out.WriteByte('\n')
		}
		if h := heading(all, first, i); h != "" {
			out.WriteString(h + "\n")
		}
		for _, e := range all[first:end] {
			out.WriteString(strings.TrimRight(string(e.mark)+" "+e.line, " ") + "\n")
		}
		i = end
	}
	return out.String()
}

func split(text string) []string {
	text = strings.TrimSuffix(strings.ReplaceAll(text, "\r\n", "\n"), "\n")
	if text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}

type edit struct {
	mark byte // ' ', '-' or '+'
	line string
}

// edits is the shortest way from a to b, what goes before what comes. Parts so
// large that nobody would read them line by line are replaced as a whole.
func edits(a, b []string) []edit {
	var all []edit
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		all = append(all, edit{' ', a[n]})
		n++
	}
	a, b = a[n:], b[n:]
	tail := 0
	for tail < len(a) && tail < len(b) && a[len(a)-1-tail] == b[len(b)-1-tail] {
		tail++
	}
	end := a[len(a)-tail:]
	a, b = a[:len(a)-tail], b[:len(b)-tail]
	i, j := 0, 0
	if len(a)*len(b) <= diffMax {
		common := make([][]int, len(a)+1) // lines in common of a[i:] and b[j:]
		for i := range common {
			common[i] = make([]int, len(b)+1)
		}
		for i := len(a) - 1; i >= 0; i-- {
			for j := len(b) - 1; j >= 0; j-- {
				common[i][j] = max(common[i+1][j], common[i][j+1])
				if a[i] == b[j] {
					common[i][j] = common[i+1][j+1] + 1
				}
			}
		}
		for i < len(a) && j < len(b) {
			switch {
			case a[i] == b[j]:
				all = append(all, edit{' ', a[i]})
				i, j = i+1, j+1
			case common[i+1][j] >= common[i][j+1]:
				all = append(all, edit{'-', a[i]})
				i++
			default:
				all = append(all, edit{'+', b[j]})
				j++
			}
		}
	}
	for ; i < len(a); i++ {
		all = append(all, edit{'-', a[i]})
	}
	for ; j < len(b); j++ {
		all = append(all, edit{'+', b[j]})
	}
	for _, l := range end {
		all = append(all, edit{' ', l})
	}
	return all
}

// heading is the table that the change at all[at] stands in, with its name,
// unless its header is shown anyway, from first on.
func heading(all []edit, first, at int) string {
	for at+1 < len(all) && all[at].line == "" && all[at+1].mark != ' ' {
		at++
	}
	for i := at; i >= 0; i-- {
		l := strings.TrimSpace(all[i].line)
		if !strings.HasPrefix(l, "[") || strings.HasPrefix(all[i].line, " ") {
			continue
		}
		if i >= first {
			return ""
		}
		header, _, _ := strings.Cut(l, "#")
		header = strings.TrimSpace(header)
		for _, e := range all[i+1:] {
			l := strings.TrimSpace(e.line)
			if strings.HasPrefix(l, "[") {
				break
			}
			if k, v, ok := strings.Cut(l, "="); ok && strings.TrimSpace(k) == "name" {
				name, _ := decode(strings.TrimSpace(v)).(string)
				return header + " " + name
			}
		}
		return header
	}
	return ""
}
