package say

// files: what is wrong with files and disks.
var files = map[string]row{
	"disk-full":   {"no space left for {0}: free some", "{0} の空き容量がありません。不要なファイルを削除してください"},
	"file-unread": {"{0} can't be read: {1}", "{0} を読み込めません：{1}"},
}
