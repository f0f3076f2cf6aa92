"""A chat in a window of Qt.

    pip install PySide6-Essentials
    python examples/qt_window.py [MODEL]

An answer is read in a thread of its own, and its text reaches the window by a signal; the window never waits.
"""

import sys

from PySide6.QtCore import QThread, Signal
from PySide6.QtGui import QCloseEvent, QTextCursor
from PySide6.QtWidgets import QApplication, QLineEdit, QPlainTextEdit, QPushButton, QVBoxLayout, QWidget

import dspark_local
from dspark_local import DSparkError, Generation, Message, Runtime, Text


class Reader(QThread):
    """Reads one answer."""

    wrote = Signal(str)
    failed = Signal(str)

    def __init__(self, generation: Generation, parent: QWidget) -> None:
        super().__init__(parent)
        self.generation = generation

    def run(self) -> None:
        """Qt calls it in the thread."""
        try:
            for event in self.generation:
                if isinstance(event, Text):
                    self.wrote.emit(event.text)
        except DSparkError as error:
            self.failed.emit(f"[{error.code}: {error}]")


class Window(QWidget):
    """The talk, a line to type in, and a button that stops an answer."""

    def __init__(self, runtime: Runtime) -> None:
        super().__init__()
        self.runtime = runtime
        self.messages: list[Message] = []
        self.answer = ""
        self.reader: Reader | None = None
        self.talk = QPlainTextEdit(readOnly=True)
        self.line = QLineEdit(placeholderText="Ask something")
        self.line.returnPressed.connect(self.ask)
        self.stop = QPushButton("Stop")
        self.stop.clicked.connect(self.cancel)
        self.stop.setEnabled(False)
        layout = QVBoxLayout(self)
        for widget in (self.talk, self.line, self.stop):
            layout.addWidget(widget)

    def ask(self) -> None:
        """Send what was typed."""
        self.messages.append(Message("user", self.line.text()))
        self.answer = ""
        try:
            generation = self.runtime.chat(self.messages)
        except DSparkError as error:
            self.messages.pop()
            self.write(f"[{error.code}: {error}]\n")
            return
        self.write(f"> {self.line.text()}\n")
        self.line.clear()
        self.line.setEnabled(False)
        self.stop.setEnabled(True)
        self.reader = Reader(generation, self)
        self.reader.wrote.connect(self.hear)
        self.reader.failed.connect(self.write)
        self.reader.finished.connect(self.done)
        self.reader.start()

    def cancel(self) -> None:
        """Stop the answer; `done` follows."""
        if self.reader:
            self.reader.generation.cancel()

    def hear(self, text: str) -> None:
        """A piece of the answer."""
        self.answer += text
        self.write(text)

    def done(self) -> None:
        """The answer is over."""
        self.messages.append(Message("assistant", self.answer))
        self.write("\n")
        self.stop.setEnabled(False)
        self.line.setEnabled(True)
        self.line.setFocus()

    def write(self, text: str) -> None:
        """Put text at the end."""
        self.talk.moveCursor(QTextCursor.MoveOperation.End)
        self.talk.insertPlainText(text)

    def closeEvent(self, event: QCloseEvent) -> None:  # noqa: N802 - Qt's name
        """Stop the answer before the window goes."""
        self.cancel()
        if self.reader:
            self.reader.wait()
        super().closeEvent(event)


def main() -> None:
    """Load, show, run."""
    app = QApplication(sys.argv)
    with dspark_local.load(sys.argv[1] if len(sys.argv) > 1 else "demo") as runtime:
        window = Window(runtime)
        window.show()
        app.exec()


if __name__ == "__main__":
    main()
