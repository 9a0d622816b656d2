// Shows what nodes/notes.py says: one toast for each run, in the page's language where web/messages has it.
import { app } from "../../scripts/app.js"
import { api } from "../../scripts/api.js"

const SETTING = "DyWeight.Notes"
const MILLISECONDS = 12000 // after the end of its run, which can take minutes
const LANGUAGES = ["zh"]
const translations = {}
let run, running, shown, severity, sentences
let done = Promise.resolve()

/** Sentences of a language; none where they can't be had, so that the English ones are shown. */
async function fetched(language) {
    try {
        return await (await fetch(new URL(`messages/${language}.json`, import.meta.url))).json()
    } catch {
        return {}
    }
}

async function translated({ message, values }) {
    const language = app.extensionManager.setting.get("Comfy.Locale")
    if (LANGUAGES.includes(language)) translations[language] ??= fetched(language)
    const text = (await translations[language])?.[message] ?? message
    return text.replace(/\{(\w+)\}/g, (field, name) => values[name] ?? field)
}

function take_away() {
    const { toast } = app.extensionManager
    if (shown) toast.dismiss ? toast.dismiss(shown) : toast.remove(shown)
    shown = undefined
}

function leave_soon() {
    const one = shown
    setTimeout(() => one === shown && take_away(), MILLISECONDS)
}

function begin({ prompt_id }) {
    running = prompt_id
    take_away()
}

function end() {
    running = undefined
    leave_soon()
}

function add(detail) {
    const { toast } = app.extensionManager
    if (!toast.dismiss) {
        // pages before 1.58
        shown = { severity, summary: "DyWeight", detail }
        toast.add(shown)
    } else {
        const kind = severity === "warn" ? "warning" : "error"
        shown = toast[kind]("DyWeight", { description: detail })
    }
}

async function show(note) {
    if (!app.extensionManager.setting.get(SETTING)) return
    const sentence = await translated(note)
    if (note.run !== run) [run, severity, sentences] = [note.run, "warn", []]
    if (note.level === "error") severity = "error"
    sentences.push(sentence)
    take_away()
    add(sentences.join("\n"))
    if (run !== running) leave_soon() // refused, so it has no end
}

/** One event after the other, also while a translation is fetched: else a later run would not take this one's away. */
function in_turn(react) {
    return ({ detail }) => (done = done.then(() => react(detail)).catch(console.error))
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
        api.addEventListener("dyweight.note", in_turn(show))
        api.addEventListener("execution_start", in_turn(begin))
        for (const last of ["execution_success", "execution_error", "execution_interrupted"])
            api.addEventListener(last, in_turn(end))
    },
})
