package main

import "strings"

// words are the sentences of this program, English and Japanese; {0} is an
// argument, {=0} one that is a key of words itself and takes those behind it.
var words = map[string][2]string{
	"add-site":         {"adding the configuration", "設定を書き込んでいます"},
	"bad-config":       {"the configuration has errors, nothing was made:\n{0}", "設定に誤りがあります。何も作成していません：\n{0}"},
	"bundle-altered":   {"the bundle was altered or damaged: copy it anew ({0})", "バンドルが改変または破損しています。コピーし直してください（{0}）"},
	"bundle-format":    {"this is no bundle that can be read ({0})", "読み取れるバンドルではありません（{0}）"},
	"bundle-kind":      {"the bundle is of a kind that this program doesn't know ({0})", "このプログラムが対応していない種類のバンドルです（{0}）"},
	"bundle-signature": {"the bundle isn't signed by one of these keys ({0})", "指定された鍵による署名がありません（{0}）"},
	"bundle-truncated": {"the bundle is cut off: copy it anew ({0})", "バンドルが途中で切れています。コピーし直してください（{0}）"},
	"check-image":      {"good: image {0} for {1}, floor {2}", "正常：イメージ {0}（{1} 用、下限 {2}）"},
	"check-site":       {"good: configuration of {0}, made {1}", "正常：{0} の設定（作成 {1}）"},
	"done":             {"{0} is ready: pull it out and start the box from it", "{0} の準備ができました。取り外して装置を起動してください"},
	"erase":            {"everything on {0} ({1}, {2}) will be lost. Type {3} to go on: ", "{0}（{1}、{2}）の内容はすべて消えます。続けるには {3} と入力してください："},
	"in-use":           {"{0} is in use, nothing was written: {=1}", "{0} は使用中です。書き込んでいません：{=1}"},
	"key-made":         {"made {0} (keep it secret) and {1} (goes into the image)", "{0}（秘密に保管）と {1}（イメージに入れる）を作成しました"},
	"key-password":     {"the password of the key is wrong ({0})", "鍵のパスワードが正しくありません（{0}）"},
	"lies":             {"the disk returned something else than was written ({0}): don't use it any more, take another one", "書き込んだ内容と異なるデータが読み出されました（{0}）。このディスクは使用せず、別のものに交換してください"},
	"list-head":        {"name|serial|size|model|state", "名前|シリアル番号|容量|型番|状態"},
	"list-none":        {"no disks", "ディスクがありません"},
	"made":             {"{0} is made", "{0} を作成しました"},
	"new-password":     {"Password of the new key (empty for none): ", "新しい鍵のパスワード（不要なら空のまま）："},
	"no-image":         {"{0} is no image of the appliance: take komainu.img as it was built", "{0} は本装置のイメージではありません。ビルドされた komainu.img を指定してください"},
	"no-such-disk":     {"there is no disk {0}: flash list shows them", "ディスク {0} はありません。flash list で確認してください"},
	"not-confirmed":    {"{0} was not typed, nothing was written", "{0} が入力されなかったため、書き込んでいません"},
	"not-removable":    {"{0} is not removable, nothing was written; if it is the right one: -any", "{0} は取り外しできるディスクではありません。書き込んでいません。間違いなければ -any を付けてください"},
	"odd-sectors":      {"{0} has sectors of {1} bytes, the image needs 512: take another stick", "{0} のセクターは {1} バイトです（512 が必要）。別の USB メモリーを使用してください"},
	"password":         {"Password of {0}: ", "{0} のパスワード："},
	"passwords":        {"the two passwords differ", "パスワードが一致しません"},
	"password-again":   {"Again: ", "もう一度："},
	"read-only":        {"{0} is write-protected, nothing was written: move its switch", "{0} は書き込み禁止です。スイッチを確認してください"},
	"site-needs":       {"-site, -secrets and -key belong together", "-site、-secrets、-key は一緒に指定してください"},
	"state-free":       {"can be written", "書き込み可"},
	"state-fixed":      {"built in (needs -any)", "内蔵（-any が必要）"},
	"too-small":        {"{0} has {1}, the image needs {2}: take a larger one", "{0} の容量は {1} です（{2} 必要）。大きいものを使用してください"},
	"two-such-disks":   {"{0} names both {1} and {2}: write /dev/NAME", "{0} は {1} と {2} の両方に該当します。/dev/名前 で指定してください"},
	"use-holder":       {"{0} is built upon it", "{0} が使用しています"},
	"use-member":       {"it is a member of {0}", "{0} の構成ディスクです"},
	"use-mounted":      {"it is mounted at {0}", "{0} にマウントされています"},
	"use-swap":         {"it holds swap ({0})", "スワップがあります（{0}）"},
	"verify":           {"verifying", "確認中"},
	"write":            {"writing", "書き込み中"},
}

// say is the sentence for code in lang ("ja", else English).
func say(lang, code string, args ...string) string {
	w, ok := words[code]
	if !ok {
		return strings.Join(append([]string{code}, args...), " ")
	}
	s := w[0]
	if lang == "ja" {
		s = w[1]
	}
	for i, a := range args {
		n := string(rune('0' + i))
		if strings.Contains(s, "{="+n+"}") {
			return strings.ReplaceAll(fill(s, args[:i]), "{="+n+"}", say(lang, a, args[i+1:]...))
		}
	}
	return fill(s, args)
}

func fill(s string, args []string) string {
	pairs := make([]string, 0, 2*len(args))
	for i, a := range args {
		pairs = append(pairs, "{"+string(rune('0'+i))+"}", a)
	}
	return strings.NewReplacer(pairs...).Replace(s)
}
