// Shows what nodes/notes.py says: one toast for each run, in the page's language where web/messages has it.
import { app } from "../../scripts/app.js"
import { api } from "../../scripts/api.js"
import { in_turn, translated } from "./language.js"

const SETTING = "DyWeight.Notes"
const MILLISECONDS = 12000 // after the end of its run, which can take minutes
let run, running, shown, severity, sentences

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
