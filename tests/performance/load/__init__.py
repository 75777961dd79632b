"""The load: raw sockets in one epoll loop, one module for each shape of traffic."""
