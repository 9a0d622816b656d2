// Shows what nodes/notes.py says: one toast for each run, in the page's language where web/messages has it.
import { app } from "../../scripts/app.js"
import { api } from "../../scripts/api.js"

const SETTING = "DyWeight.Notes"
const MILLISECONDS = 12000
const LANGUAGES = ["zh"]
const translations = {}
let run, shown, severity, sentences

async function translated({ message, values }) {
    const language = app.extensionManager.setting.get("Comfy.Locale")
    if (LANGUAGES.includes(language))
        translations[language] ??= fetch(new URL(`messages/${language}.json`, import.meta.url)).then((file) => file.json())
    const text = (await translations[language])?.[message] ?? message
    return text.replace(/\{(\w+)\}/g, (field, name) => values[name] ?? field)
}

function take_away() {
    const { toast } = app.extensionManager
    if (shown) toast.dismiss ? toast.dismiss(shown) : toast.remove(shown)
    shown = undefined
}

function add(detail) {
    const { toast } = app.extensionManager
    if (!toast.dismiss) {
        // pages before 1.58
        shown = { severity, summary: "DyWeight", detail, life: MILLISECONDS }
        toast.add(shown)
    } else {
        const kind = severity === "warn" ? "warning" : "error"
        shown = toast[kind]("DyWeight", { description: detail, duration: MILLISECONDS })
    }
}

async function show({ detail: note }) {
    if (!app.extensionManager.setting.get(SETTING)) return
    const sentence = await translated(note)
    if (note.run !== run) [run, severity, sentences] = [note.run, "warn", []]
    if (note.level === "error") severity = "error"
    sentences.push(sentence)
    take_away()
    add(sentences.join("\n"))
}

app.registerExtension({
    name: "DyWeight.Notes",
    settings: [
        {
            id: SETTING,
            category: ["DyWeight", "Notes", "Show"],
            name: "Show on the page what to change",
            tooltip: "Off: these notes are only in ComfyUI's log.",
            type: "boolean",
            defaultValue: true,
        },
    ],
    setup() {
        api.addEventListener("dyweight.note", show)
        api.addEventListener("execution_start", take_away)
    },
})
