"""A chat in the console.

    python examples/console.py [MODEL]

Ctrl-C stops an answer, Ctrl-D or an empty line the program.
"""

import sys

import dspark_local
from dspark_local import Message, Text


def main() -> None:
    """Ask, answer, remember."""
    messages: list[Message] = []
    with dspark_local.load(sys.argv[1] if len(sys.argv) > 1 else "demo") as runtime:
        while question := ask():
            messages.append(Message("user", question))
            answer = ""
            try:
                for event in runtime.chat(messages):
                    if isinstance(event, Text):
                        print(event.text, end="", flush=True)
                        answer += event.text
            except KeyboardInterrupt:
                print(" …", end="")
            print()
            messages.append(Message("assistant", answer))


def ask() -> str:
    """A line from the user; empty at the end."""
    try:
        return input("> ")
    except EOFError:
        return ""


if __name__ == "__main__":
    try:
        main()
    except dspark_local.DSparkError as error:
        sys.exit(f"{error.code}: {error}")
