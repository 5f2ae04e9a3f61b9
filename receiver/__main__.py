"""`python -m receiver`: the same as `gardien-receiver`."""

from receiver.run import main

if __name__ == "__main__":
    main()
